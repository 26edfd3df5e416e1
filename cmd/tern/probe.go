package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/ternmesh/tern/media/braid"
	"github.com/ternmesh/tern/node"
	"github.com/ternmesh/tern/node/gate"
	"github.com/ternmesh/tern/node/probe"
	simrun "github.com/ternmesh/tern/sim/run"
)

// probeCommand measures between two nodes of a live mesh what the simulator measures in one that is not.
func probeCommand() *cobra.Command {
	var o simrun.ProbeOptions
	var jsonFile, html string
	cmd := &cobra.Command{
		Use:   "probe FROM TO",
		Short: "Measure a synthetic stream between two nodes of a live mesh, with the simulator's report",
		Long: "Measure a synthetic stream between two nodes of a live mesh, with the simulator's report. One node is asked (--admin); it asks the others.\n\n" +
			"The stream is sent under an app: its fence and its redundancy hold, and it takes its share of the links. Latency is corrected by the\n" +
			"estimated difference of the two clocks; a note says how far that may be off.\n\n" +
			"Exit status: 0 measured, 1 it could not be, or a packet came twice.",
		Example: "  tern probe fra sin --for 30s\n  tern probe fra sin --app demo --rate 500 --json probe.json --html probe.html",
		Args:    args(2, "two nodes"),
	}
	base := adminFlag(cmd)
	f := cmd.Flags()
	f.DurationVar(&o.For, "for", 30*time.Second, "how long figures are taken")
	f.StringVar(&o.App, "app", "", "app to send under (default: the first whose fence holds both nodes)")
	f.IntVar(&o.PacketsPerSecond, "rate", 200, "packets a second")
	f.IntVar(&o.Size, "size", 1150, "bytes of an RTP packet")
	f.DurationVar(&o.Deadline, "deadline", 250*time.Millisecond, "playout after sending; what comes later is late")
	f.StringVar(&jsonFile, "json", "", "write the report as JSON to this file (-: standard output)")
	f.StringVar(&html, "html", "", "write the report as one HTML file")
	cmd.RunE = func(cmd *cobra.Command, got []string) error {
		o.From, o.To, o.Version = got[0], got[1], version
		if err := checkProbe(o); err != nil {
			return usageError{err}
		}
		if err := writable("", jsonFile, html); err != nil {
			return usageError{err}
		}
		if err := chooseApp(cmd.Context(), *base, &o); err != nil {
			return err
		}
		r, err := simrun.Probe(cmd.Context(), o, func(ctx context.Context, at string, step probe.Request) (a node.ProbeAnswer, err error) {
			body, err := json.Marshal(step)
			if err != nil {
				return a, err
			}
			return a, admin(ctx, *base, http.MethodPost, "/v1/probe/"+url.PathEscape(at), body, &a)
		})
		if err != nil {
			return err
		}
		if jsonFile != "-" {
			fmt.Fprint(cmd.OutOrStdout(), r.Summary())
		}
		for file, write := range map[string]func(io.Writer) error{jsonFile: r.WriteJSON, html: r.WriteHTML} {
			if err := writeUnlessEmpty(file, write); err != nil {
				return err
			}
		}
		if !r.Safe {
			return quietError{errors.New("a packet came twice")}
		}
		return nil
	}
	return cmd
}

// checkProbe reports everything that is wrong with the flags.
func checkProbe(o simrun.ProbeOptions) error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(o.From != o.To, "FROM and TO are both %q: name two nodes", o.From)
	check(o.For >= time.Second && o.For <= probe.MaxFor/2, "--for %v: want 1s to %v", o.For, probe.MaxFor/2)
	check(o.PacketsPerSecond >= 1 && o.PacketsPerSecond <= probe.MaxPacketsPerSecond, "--rate %d: want 1 to %d packets a second", o.PacketsPerSecond, probe.MaxPacketsPerSecond)
	check(o.Size >= probe.MinBytes && o.Size <= probe.MaxBytes, "--size %d: want %d to %d bytes", o.Size, probe.MinBytes, probe.MaxBytes)
	check(o.Deadline > 0 && o.Deadline <= 10*time.Second, "--deadline %v: want up to 10s", o.Deadline)
	return errors.Join(errs...)
}

// chooseApp finds the app and its fence in the policy; the regions of both nodes must be inside.
func chooseApp(ctx context.Context, base gate.Target, o *simrun.ProbeOptions) error {
	var s node.Status
	if err := admin(ctx, base, http.MethodGet, "/v1/status", nil, &s); err != nil {
		return err
	}
	regions := make(map[string]string)
	for _, m := range s.Members {
		if m.Alive {
			regions[m.Node] = m.Region
		}
	}
	for _, n := range []string{o.From, o.To} {
		if regions[n] == "" {
			return fmt.Errorf("%s sees no living node %q: tern status shows those that there are", s.Node, n)
		}
	}
	var d node.PolicyDocument
	if err := admin(ctx, base, http.MethodGet, "/v1/policy", nil, &d); err != nil {
		return err
	}
	for _, a := range d.Policy.Apps {
		fence := d.Policy.FenceRegions(a)
		inside := slices.Contains(fence, regions[o.From]) && slices.Contains(fence, regions[o.To])
		switch {
		case a.ID == o.App && !inside:
			return fmt.Errorf("app %s may not be in the regions of both nodes (%s, %s): name another with --app", a.ID, regions[o.From], regions[o.To])
		case inside && (o.App == "" || a.ID == o.App):
			o.App, o.Fence = a.ID, fmt.Sprintf("%08x", uint32(braid.FenceOf(fence)))
			return nil
		}
	}
	if o.App != "" {
		return fmt.Errorf("the policy has no app %q", o.App)
	}
	return fmt.Errorf("no app of the policy may be in the regions of both nodes (%s, %s): a probe is sent under an app", regions[o.From], regions[o.To])
}
