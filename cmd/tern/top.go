package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ternmesh/tern/node"
	"github.com/ternmesh/tern/node/gate"
)

// clearScreen puts the cursor home and clears what follows (ECMA-48).
const clearScreen = "\x1b[H\x1b[2J"

func topCommand() *cobra.Command {
	var every time.Duration
	var count int
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch a node live: findings, sessions, packet rates, and what each path of each braid carries and rescues",
		Example: `  tern top
  tern top --every 5s --count 12 > minute.txt`,
		Args: args(0, "no arguments"),
	}
	base := adminFlag(cmd)
	asJSON := cmd.Flags().Bool("json", false, "print the node's status as JSON, one look a line")
	cmd.Flags().DurationVar(&every, "every", time.Second, "time between two looks, at least 200ms")
	cmd.Flags().IntVar(&count, "count", 0, "end after so many looks; 0: go on until interrupted")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if every < 200*time.Millisecond {
			return usageError{fmt.Errorf("--every %v: at least 200ms, so that watching costs the node nothing", every)}
		}
		return top(cmd.Context(), cmd.OutOrStdout(), *base, every, count, *asJSON)
	}
	return cmd
}

// top prints a look every interval; the first one has no rates yet.
func top(ctx context.Context, w io.Writer, base gate.Target, every time.Duration, count int, asJSON bool) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	var last node.Status
	for i := 0; count == 0 || i < count; i++ {
		var s node.Status
		if err := admin(ctx, base, http.MethodGet, "/v1/status", nil, &s); err != nil {
			return err
		}
		switch {
		case asJSON:
			if err := json.NewEncoder(w).Encode(s); err != nil {
				return err
			}
		case count == 0:
			fmt.Fprint(w, clearScreen)
			fallthrough
		default:
			printTop(w, last, s)
		}
		last = s
		if i+1 == count {
			break
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
	return nil
}

// printTop shows s with rates since last (packets a second by the node's own clock; none if last is another run).
func printTop(w io.Writer, last, s node.Status) {
	seconds := s.UptimeSeconds - last.UptimeSeconds
	if last.Incarnation != s.Incarnation || seconds <= 0 {
		last, seconds = node.Status{}, 0
	}
	rate := func(now, before uint64) string {
		if seconds == 0 || now < before {
			return "-"
		}
		return fmt.Sprintf("%.0f/s", float64(now-before)/seconds)
	}
	fmt.Fprintf(w, "%s in %s: %s, up %v, policy %d, %d nodes, %d clients\n", s.Node, s.Region, s.State,
		time.Duration(s.UptimeSeconds*float64(time.Second)).Round(time.Second), s.PolicyVersion, len(s.Members), clients(s))
	printFindings(w, s)
	fmt.Fprintf(w, "clients' RTP: in %s, out %s, dropped %s\n\n", rate(s.Access.PacketsIn, last.Access.PacketsIn),
		rate(s.Access.PacketsOut, last.Access.PacketsOut), rate(s.Access.Dropped, last.Access.Dropped))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "BRAID / PATH\tSENT\tDELIVERED\tLOST\tFIRST\tRESCUED\tDELAY")
	for _, b := range s.Braids {
		was := braidOf(last, b)
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t\t\t\n", b.Peer, rate(b.PacketsSent, was.PacketsSent),
			rate(b.PacketsDelivered, was.PacketsDelivered), rate(b.Undelivered, was.Undelivered))
		for _, side := range []struct{ now, was []node.PathStatus }{{b.Out, was.Out}, {b.In, was.In}} {
			for _, p := range side.now {
				if !p.Active {
					continue
				}
				o := pathOf(side.was, p)
				fmt.Fprintf(t, "  %s\t%s\t\t%s\t%s\t%s\t%.1f ms\n", hops(p.Hops), rate(p.Sent, o.Sent), rate(p.Lost, o.Lost),
					rate(p.First, o.First), rate(p.Rescued, o.Rescued), p.DelayMS)
			}
		}
	}
	_ = t.Flush()
}

func clients(s node.Status) (sum int) {
	for _, n := range s.Access.Sessions {
		sum += n
	}
	return sum
}

func braidOf(s node.Status, b node.BraidStatus) node.BraidStatus {
	i := slices.IndexFunc(s.Braids, func(o node.BraidStatus) bool { return o.Peer == b.Peer && o.Fence == b.Fence })
	if i < 0 {
		return node.BraidStatus{}
	}
	return s.Braids[i]
}

func pathOf(paths []node.PathStatus, p node.PathStatus) node.PathStatus {
	i := slices.IndexFunc(paths, func(o node.PathStatus) bool { return o.ID == p.ID && slices.Equal(o.Hops, p.Hops) })
	if i < 0 {
		return node.PathStatus{}
	}
	return paths[i]
}
