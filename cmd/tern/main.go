// Command tern is the one binary of the mesh: it runs nodes, makes certificates, talks to a node's admin API,
// and demonstrates a mesh on one machine. Each subcommand is a thin file; the work is in the packages.
//
//	main.go      the root command, exit status
//	node.go      tern node, tern reload, tern validate
//	version.go   tern version
//	ca.go        tern ca init, tern ca issue, tern ca authority
//	authority.go  tern authority serve
//	authoritybook.go  tern authority invite, approve, deny, list, audit
//	enrol.go     tern enrol
//	lease.go     tern lease show, renew
//	status.go    tern status, tern paths (the admin API)
//	top.go       tern top
//	doctor.go    tern doctor, tern ports
//	health.go    tern health
//	manual.go    tern man
//	drain.go     tern drain, undrain, cordon
//	revoke.go    tern revoke, readmit
//	policy.go    tern policy get, history, schema
//	policychange.go  tern policy apply, diff, rollback, explain
//	audit.go     tern audit tail, verify, export
//	conformance.go  tern conformance whip, whep
//	fence.go     tern fence prove
//	control.go   tern control snapshot save, show, restore
//	token.go     tern token create, inspect
//	filter.go    tern filter status, top, check, bench, verdict
//	routes.go    tern routes (offline)
//	export.go    tern export graph
//	mesh.go      tern mesh rotate-key
//	demo.go      tern demo
//	sim.go       tern sim run, list, describe, new
//	simlink.go   tern sim link
//	bench.go     tern bench list, run, gate, fanout
//	load.go      tern load
//	admintoken.go  tern admin token create, list, revoke; tern ca admin
//	probe.go     tern probe
//	admin.go     the HTTP client of the admin API
//
// Exit status: 0 done, 1 failed, 2 wrong usage.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the linker: -X main.version=...
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:]))
}

// usageError is a wrong command line: status 2.
type usageError struct{ error }

// quietError failed and has said why already.
type quietError struct{ error }

func run(ctx context.Context, args []string) int {
	root := rootCommand()
	root.SetArgs(args)
	err := knownCommand(root, args)
	if err == nil {
		err = root.ExecuteContext(ctx)
	}
	var usage usageError
	var quiet quietError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &quiet):
		return 1
	case errors.As(err, &usage):
		fmt.Fprintf(os.Stderr, "tern: %v\n", err)
		return 2
	case strings.HasPrefix(err.Error(), "unknown command "): // the library has no type for it
		fmt.Fprintf(os.Stderr, "tern: %s\nsee tern --help\n", strings.TrimSpace(err.Error()))
		return 2
	default:
		fmt.Fprintf(os.Stderr, "tern: %v\n", err)
		return 1
	}
}

// knownCommand refuses a word after a group of commands that names none of them: the library prints the group's help instead,
// and a script would take that for done.
func knownCommand(root *cobra.Command, args []string) error {
	root.InitDefaultCompletionCmd(args...)
	group, rest, err := root.Find(args)
	if err != nil || group == root || group.Runnable() || len(rest) == 0 || strings.HasPrefix(rest[0], "-") {
		return nil // the library judges
	}
	return usageError{fmt.Errorf("unknown command %q for %q: see %[2]s --help", rest[0], group.CommandPath())}
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "tern",
		Short:         "An edge mesh for real-time media: every packet on three paths, the first to arrive wins",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand( // a line each: parallel changes do not collide
		adminCommand(),
		benchCommand(),
		caCommand(),
		auditCommand(),
		authorityCommand(),
		controlCommand(),
		conformanceCommand(),
		cordonCommand(),
		demoCommand(),
		doctorCommand(),
		drainCommand(),
		enrolCommand(),
		exportCommand(),
		fenceCommand(),
		filterCommand(),
		leaseCommand(),
		loadCommand(),
		healthCommand(),
		manualCommand(),
		meshCommand(),
		nodeCommand(),
		pathsCommand(),
		policyCommand(),
		portsCommand(),
		probeCommand(),
		reloadCommand(),
		readmitCommand(),
		revokeCommand(),
		routesCommand(),
		simCommand(),
		statusCommand(),
		tokenCommand(),
		topCommand(),
		undrainCommand(),
		validateCommand(),
		versionCommand(),
	)
	return root
}

// needed makes flags without which a command cannot begin a usage error, all that are missing at once.
func needed(cmd *cobra.Command, flags ...string) error {
	var missing []string
	for _, name := range flags {
		if f := cmd.Flags().Lookup(name); f.Value.String() == "" {
			missing = append(missing, "--"+name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return usageError{fmt.Errorf("needed: %s: see %s --help", strings.Join(missing, ", "), cmd.CommandPath())}
}

// args checks the number of positional arguments and makes a mismatch a usage error.
func args(n int, names string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, got []string) error {
		if len(got) != n {
			return usageError{fmt.Errorf("%s takes %s: see %s --help", cmd.CommandPath(), names, cmd.CommandPath())}
		}
		return nil
	}
}
