package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/ternmesh/tern/control"
	"github.com/ternmesh/tern/node"
	"github.com/ternmesh/tern/node/gate"
)

// drainPoll is how often --wait looks.
const drainPoll = 500 * time.Millisecond

func drainCommand() *cobra.Command {
	var o node.NodeOrder
	var deadline, wait time.Duration
	cmd := &cobra.Command{
		Use:   "drain NODE",
		Short: "Move everything away from a node, so that it can be stopped",
		Long: "New sessions go to other nodes, paths and directory entries move away without a gap, raft's leadership is handed\n" +
			"over. Sessions that are there go on until they end by themselves, or until the deadline. The policy keeps the\n" +
			"state: it outlives a restart of the node, until `tern undrain NODE`.",
		Example: "  tern drain fra1 --deadline 10m --wait 15m\n  tern undrain fra1",
		Args:    args(1, "the name of a node"),
	}
	base := adminFlag(cmd)
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	cmd.Flags().DurationVar(&deadline, "deadline", 0, "end the sessions that are left after this time (0: never)")
	cmd.Flags().DurationVar(&wait, "wait", 0, "wait this long until nothing is left on the node; status 1 if something is")
	cmd.Flags().BoolVar(&o.Force, "force", false, "also a node that is unknown, or the last one that takes clients")
	cmd.RunE = func(cmd *cobra.Command, got []string) error {
		if deadline < 0 || wait < 0 {
			return usageError{errors.New("--deadline and --wait take a time from now, such as 10m")}
		}
		o.State, o.DeadlineSeconds = control.NodeDrained, deadline.Seconds()
		if err := orderNode(cmd, *base, got[0], &o, *asJSON); err != nil || wait == 0 {
			return err
		}
		return awaitDrained(cmd, *base, got[0], wait, *asJSON)
	}
	return cmd
}

func undrainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "undrain NODE",
		Aliases: []string{"uncordon"},
		Short:   "Put a drained or cordoned node back into service",
		Example: "  tern undrain fra1\n  tern undrain fra1 --wait 1m    # also where the node was started this moment",
		Args:    args(1, "the name of a node"),
	}
	base := adminFlag(cmd)
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	wait := cmd.Flags().Duration("wait", 0, "try again for this long while the node or raft's leader does not answer yet")
	cmd.RunE = func(cmd *cobra.Command, got []string) error {
		until := time.Now().Add(*wait)
		for {
			err := orderNode(cmd, *base, got[0], nil, *asJSON)
			if err == nil || time.Now().After(until) {
				return err
			}
			select {
			case <-time.After(drainPoll):
			case <-cmd.Context().Done():
				return err
			}
		}
	}
	return cmd
}

func cordonCommand() *cobra.Command {
	o := node.NodeOrder{State: control.NodeCordoned}
	cmd := &cobra.Command{
		Use:     "cordon NODE",
		Short:   "Keep new sessions and new paths away from a node; what is there stays",
		Example: "  tern cordon fra1\n  tern undrain fra1",
		Args:    args(1, "the name of a node"),
	}
	base := adminFlag(cmd)
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	cmd.Flags().BoolVar(&o.Force, "force", false, "also a node that is unknown, or the last one that takes clients")
	cmd.RunE = func(cmd *cobra.Command, got []string) error { return orderNode(cmd, *base, got[0], &o, *asJSON) }
	return cmd
}

// orderNode sends an order, nil to put the node back into service, and says what holds now.
func orderNode(cmd *cobra.Command, base gate.Target, name string, o *node.NodeOrder, asJSON bool) error {
	method, body := http.MethodDelete, []byte(nil)
	if o != nil {
		var err error
		if body, err = json.Marshal(o); err != nil {
			return err
		}
		method = http.MethodPut
	}
	var a node.NodeAnswer
	if err := admin(cmd.Context(), base, method, "/v1/nodes/"+url.PathEscape(name), body, &a); err != nil {
		return err
	}
	if asJSON {
		return printJSON(cmd.OutOrStdout(), a)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s: %s (policy version %d)", a.Node, a.State, a.Version)
	if !a.Deadline.IsZero() {
		fmt.Fprintf(cmd.OutOrStdout(), ", sessions that are left end at %s", a.Deadline.Format(time.RFC3339))
	}
	fmt.Fprintln(cmd.OutOrStdout())
	return nil
}

// awaitDrained looks at the node through the one that took the order, until the node says of itself that it is drained.
func awaitDrained(cmd *cobra.Command, base gate.Target, name string, limit time.Duration, quiet bool) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), limit)
	defer cancel()
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	for {
		var s node.Status
		if err := admin(ctx, base, http.MethodGet, "/v1/status", nil, &s); err != nil && ctx.Err() == nil {
			return err
		}
		at := slices.IndexFunc(s.Members, func(m node.MemberStatus) bool { return m.Node == name })
		if at >= 0 && (s.Members[at].State == node.StateDrained || !s.Members[at].Alive) {
			if !quiet {
				fmt.Fprintf(cmd.OutOrStdout(), "%s: nothing is left on it, it may be stopped\n", name)
			}
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			left := "it was not seen"
			if at >= 0 {
				left = fmt.Sprintf("it is %s with %d sessions", s.Members[at].State, s.Members[at].Sessions)
			}
			return fmt.Errorf("%s is not drained after %v: %s; the drain goes on, --deadline bounds it", name, limit, left)
		}
	}
}
