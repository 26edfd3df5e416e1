package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ternmesh/tern/node"
)

func statusCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "Show what a node sees: itself, the members, the links, what its braids carry",
		Example: "  tern status --admin 127.0.0.1:7902",
		Args:    args(0, "no arguments"),
	}
	base := adminFlag(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var s node.Status
		if err := admin(cmd.Context(), *base, http.MethodGet, "/v1/status", nil, &s); err != nil {
			return err
		}
		if asJSON {
			return printJSON(cmd.OutOrStdout(), s)
		}
		printStatus(cmd.OutOrStdout(), s)
		return nil
	}
	return cmd
}

func printStatus(w io.Writer, s node.Status) {
	fmt.Fprintf(w, "%s in %s (mesh %s): %s, up %v, policy %d, filter %s\n", s.Node, s.Region, s.Mesh, s.State,
		time.Duration(s.UptimeSeconds*float64(time.Second)).Round(time.Second), s.PolicyVersion, s.Filter)
	fmt.Fprintf(w, "control: %s, leader %s\n\n", s.Control.Role, orNone(s.Control.Leader))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NODE\tREGION\tSTATE\tPOLICY\tVOTER\tSESSIONS\tACCESS")
	for _, m := range s.Members {
		state := m.State
		if !m.Alive {
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
		printPaths(t, b.Out)
		printPaths(t, b.In)
	}
	_ = t.Flush()
}

func printPaths(w io.Writer, paths []node.PathStatus) {
	for _, p := range paths {
		state := "in use"
		switch {
		case !p.Active:
			state = "replaced"
		case !p.Alive:
			state = "dead"
		}
		fmt.Fprintf(w, "  %s\t%s\tsent %d\tlost %d\tfirst %d\trescued %d\n", strings.Join(p.Hops, " > "), state, p.Sent, p.Lost, p.First, p.Rescued)
	}
}

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
		Short:   "Show the path set between two nodes, as a node sees it now",
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
		return printPathSet(cmd.OutOrStdout(), r.Paths, r.Disjoint, r.Shared)
	}
	return cmd
}
