package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ternmesh/tern/mesh"
	"github.com/ternmesh/tern/node"
)

func statusCommand() *cobra.Command {
	var asJSON, check bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say whether all is fine, and if not, where; then what a node sees: itself, members, links, braids",
		Example: `  tern status
  tern status --check > /dev/null || echo "not fine"
  tern status --admin 127.0.0.1:7902 --json`,
		Args: args(0, "no arguments"),
	}
	base := adminFlag(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&check, "check", false, "end with status 1 if something is not fine")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var s node.Status
		if err := admin(cmd.Context(), *base, http.MethodGet, "/v1/status", nil, &s); err != nil {
			return err
		}
		if asJSON {
			if err := printJSON(cmd.OutOrStdout(), s); err != nil {
				return err
			}
		} else {
			printStatus(cmd.OutOrStdout(), s)
		}
		if check && len(s.Findings) > 0 {
			return quietError{errors.New("not fine")}
		}
		return nil
	}
	return cmd
}

func printStatus(w io.Writer, s node.Status) {
	fmt.Fprintf(w, "%s in %s (mesh %s): %s, up %v, policy %d, filter %s\n", s.Node, s.Region, s.Mesh, s.State,
		time.Duration(s.UptimeSeconds*float64(time.Second)).Round(time.Second), s.PolicyVersion, s.Filter)
	if d := s.Drain; d != nil {
		fmt.Fprintf(w, "%s", d.Wanted)
		if !d.Deadline.IsZero() {
			fmt.Fprintf(w, ", the sessions that are left end at %s", d.Deadline.Format(time.RFC3339))
		}
		fmt.Fprintf(w, ": %d sessions left, forwarded nothing for %.0f s\n", d.Sessions, d.QuietSeconds)
	}
	fmt.Fprintf(w, "control: %s, leader %s\n", s.Control.Role, orNone(s.Control.Leader))
	printFindings(w, s)
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NODE\tREGION\tSTATE\tPOLICY\tVOTER\tSESSIONS\tACCESS")
	for _, m := range s.Members {
		state := m.State
		switch {
		case !m.Alive && state == mesh.StateLeft:
			state = "stopped"
		case !m.Alive:
			state = "dead"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%v\t%d\t%s\n", m.Node, m.Region, state, m.PolicyVersion, m.Voter, m.Sessions, m.AccessURL)
	}
	fmt.Fprintln(t, "\nLINK\tLATENCY\tJITTER\tLOSS\t")
	for _, l := range s.Links {
		if l.From == s.Node {
			note := ""
			if l.Down {
				note = "down"
			}
			fmt.Fprintf(t, "%s > %s\t%.1f ms\t%.1f ms\t%.2f %%\t%s\n", l.From, l.To, l.LatencyMS, l.JitterMS, 100*l.Loss, note)
		}
	}
	for _, b := range s.Braids {
		fmt.Fprintf(t, "\nBRAID with %s\tsent %d\tdelivered %d\tduplicates dropped %d\trepaired %d\tundelivered %d\n", b.Peer, b.PacketsSent, b.PacketsDelivered, b.Duplicates, b.Repaired, b.Undelivered)
		printBudget(t, b.Budget)
		printPaths(t, b.Out)
		printPaths(t, b.In)
	}
	_ = t.Flush()
}

// printFindings answers the first question: is it fine, and if not, where and what to do.
func printFindings(w io.Writer, s node.Status) {
	if len(s.Findings) == 0 {
		fmt.Fprintf(w, "fine: %d nodes, %d links, %d braids, nothing to do\n", len(s.Members), len(s.Links), len(s.Braids))
		return
	}
	fmt.Fprintf(w, "NOT FINE: %s\n", counted(len(s.Findings), "finding"))
	for _, f := range s.Findings {
		fmt.Fprintf(w, "  %-8s %s: %s\n           do: %s\n", f.Severity, f.Where, f.What, f.Do)
	}
}

// counted is a number of things, in words.
func counted(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}

// printBudget says in how many copies media leaves, and what keeps it from more.
func printBudget(w io.Writer, g node.BudgetStatus) {
	if g.Copies == 0 {
		return
	}
	fmt.Fprintf(w, "  %.2f copies of %.0f kbit/s", g.Copies, g.DemandKbps)
	if g.LimitKbps > 0 {
		fmt.Fprintf(w, "\tlimited by %s\tto %.0f kbit/s", g.LimitedBy, g.LimitKbps)
	}
	if g.Withheld > 0 {
		fmt.Fprintf(w, "\twithheld %d", g.Withheld)
	}
	fmt.Fprintln(w)
}

func printPaths(w io.Writer, paths []node.PathStatus) {
	for _, p := range paths {
		fmt.Fprintf(w, "  %s\t%s\tsent %d\tlost %d\tfirst %d\trescued %d\n", hops(p.Hops), pathState(p), p.Sent, p.Lost, p.First, p.Rescued)
	}
}

func pathState(p node.PathStatus) string {
	switch {
	case !p.Active:
		return "replaced"
	case !p.Alive:
		return "dead"
	case p.BudgetKbps > 0:
		return fmt.Sprintf("capped at %.0f kbit/s", p.BudgetKbps)
	}
	return "in use"
}

// hops writes a path as every command does.
func hops(nodes []string) string { return strings.Join(nodes, " > ") }

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func pathsCommand() *cobra.Command {
	var asJSON bool
	var app string
	cmd := &cobra.Command{
		Use:     "paths FROM TO",
		Short:   "Show the path set between two nodes, as a node sees it now, and what each path did if it is one of them",
		Example: "  tern paths fra1 sin1 --app 970CA35de60c44645bbae8a215061b33",
		Args:    args(2, "FROM and TO, two node names"),
	}
	base := adminFlag(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().StringVar(&app, "app", "", "stay inside the fence of this app")
	cmd.RunE = func(cmd *cobra.Command, nodes []string) error {
		q := url.Values{"from": {nodes[0]}, "to": {nodes[1]}, "app": {app}}
		var r node.PathsReport
		if err := admin(cmd.Context(), *base, http.MethodGet, "/v1/paths?"+q.Encode(), nil, &r); err != nil {
			return err
		}
		if asJSON {
			return printJSON(cmd.OutOrStdout(), r)
		}
		err := printPathSet(cmd.OutOrStdout(), r.Paths, r.Disjoint, r.Shared)
		printPathStatistics(cmd.OutOrStdout(), r)
		return err
	}
	return cmd
}

// printPathStatistics says what each path did in the sessions between the two nodes, each direction by itself.
func printPathStatistics(w io.Writer, r node.PathsReport) {
	for _, b := range r.Braids {
		there, back := b.Out, b.In // as the node that answers sees them
		therePairs, backPairs := b.OutPairs, b.InPairs
		if b.Peer == r.From {
			there, back, therePairs, backPairs = back, there, backPairs, therePairs
		}
		fmt.Fprintf(w, "\nsession under fence %s\n", b.Fence)
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "PATH\tSTATE\tLOSS\tBURSTS\tLONGEST\tOVER FLOOR\tJITTER\tFIRST\tRESCUED")
		for _, p := range append(slices.Clone(there), back...) {
			if p.Active {
				fmt.Fprintf(t, "%s\t%s\t%.3f %%\t%d\t%d\t%.1f ms\t%.1f ms\t%.1f %%\t%d\n", hops(p.Hops), pathState(p), 100*p.LossShare,
					p.Bursts, p.LongestBurst, p.OverFloorMS, p.JitterMS, 100*p.FirstShare, p.Rescued)
			}
		}
		_ = t.Flush()
		printPairs(w, there, therePairs)
		printPairs(w, back, backPairs)
	}
}

// printPairs says what two paths lost at once, and what it would be were their losses independent.
func printPairs(w io.Writer, paths []node.PathStatus, pairs []node.PairStatus) {
	name := make(map[uint8]string)
	for _, p := range paths {
		if p.Active {
			name[p.ID] = hops(p.Hops)
		}
	}
	for _, p := range pairs {
		if name[p.A] != "" && name[p.B] != "" {
			fmt.Fprintf(w, "both %s and %s lost %d of %d frames (%.4f %%; independent losses: %.4f %%)\n",
				name[p.A], name[p.B], p.LostBoth, p.Sent, 100*p.Joint, 100*p.Expected)
		}
	}
}
