package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"github.com/ternmesh/tern/node"
)

func nodeCommand() *cobra.Command {
	var config string
	cmd := &cobra.Command{
		Use:   "node --config FILE",
		Short: "Run a node",
		Long: `Run a node until SIGTERM or SIGINT. SIGHUP reads the configuration anew, as tern reload does. Under systemd it says when it
is ready, reloading and stopping, and feeds the watchdog (Type=notify).`,
		Example: "  tern node --config /etc/tern/node.yaml",
		Args:    args(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadConfig(config)
			if err != nil {
				return err
			}
			load := func() (node.Config, error) { return loadConfig(config) }
			n, err := node.New(c, node.Options{Version: version, OwnProcess: true, LoadConfig: load})
			if err != nil {
				return err
			}
			ctx, stop := context.WithCancel(cmd.Context())
			defer stop()
			go supervise(ctx, n)
			return n.Run(ctx)
		},
	}
	cmd.Flags().StringVarP(&config, "config", "c", "", "configuration file (YAML)")
	return cmd
}

// releaseEvery is how often an idle node gives pages of its code back.
const releaseEvery = 2 * time.Minute

// supervised is what supervise asks of a node.
type supervised interface {
	Ready() <-chan struct{}
	Idle() bool
	Status() node.Status
	ReloadFile() (node.ReloadReport, error)
}

// supervise talks to whoever started the process: it takes SIGHUP, and tells systemd what goes on. Without systemd
// daemon.SdNotify does nothing.
func supervise(ctx context.Context, n supervised) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	select {
	case <-n.Ready():
	case <-ctx.Done():
		return
	}
	notify := func(state string) { _, _ = daemon.SdNotify(false, state) }
	notify(daemon.SdNotifyReady)
	releaseCode()
	idle := time.NewTicker(releaseEvery)
	defer idle.Stop()
	defer notify(daemon.SdNotifyStopping)
	var feed <-chan time.Time
	if every, err := daemon.SdWatchdogEnabled(false); err == nil && every > 0 {
		tick := time.NewTicker(every / 2)
		defer tick.Stop()
		feed = tick.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-idle.C:
			if n.Idle() {
				releaseCode()
			}
		case <-feed:
			n.Status() // takes every part's lock: a node that hangs is not fed
			notify(daemon.SdNotifyWatchdog)
		case <-hup:
			notify(daemon.SdNotifyReloading)
			go func() { // not here: a file system that hangs must not keep the watchdog from its food
				_, _ = n.ReloadFile() // it logs both
				notify(daemon.SdNotifyReady)
			}()
		}
	}
}

func reloadCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "reload",
		Short:   "Make a running node read its configuration anew; says what is in force and what waits for a restart",
		Example: "  tern reload --admin 127.0.0.1:7902",
		Args:    args(0, "no arguments"),
	}
	base := adminFlag(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var r node.ReloadReport
		if err := admin(cmd.Context(), *base, http.MethodPost, "/v1/reload", nil, &r); err != nil {
			return err
		}
		if asJSON {
			return printJSON(cmd.OutOrStdout(), r)
		}
		fmt.Fprintln(cmd.OutOrStdout(), r)
		return nil
	}
	return cmd
}

func validateCommand() *cobra.Command {
	var config string
	var schema bool
	cmd := &cobra.Command{
		Use:   "validate --config FILE",
		Short: "Check a configuration file, with the environment's TERN_* overrides, and start nothing",
		Example: `  tern validate --config node.yaml
  tern validate --schema > node.schema.json`,
		Args: args(0, "no arguments"),
	}
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if schema {
			_, err := cmd.OutOrStdout().Write(node.ConfigSchema())
			return err
		}
		c, err := loadConfig(config)
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), map[string]string{"file": config, "node": c.Node})
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s: ok (node %s)\n", config, c.Node)
		return nil
	}
	cmd.Flags().StringVarP(&config, "config", "c", "", "configuration file (YAML)")
	cmd.Flags().BoolVar(&schema, "schema", false, "print the JSON Schema of the configuration file instead, for editors")
	return cmd
}

func loadConfig(file string) (node.Config, error) {
	if file == "" {
		return node.Config{}, usageError{errors.New("--config FILE is needed")}
	}
	return node.LoadConfig(file, os.Environ())
}
