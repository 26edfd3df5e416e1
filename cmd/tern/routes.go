package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ternmesh/tern/control"
	"github.com/ternmesh/tern/node"
	"github.com/ternmesh/tern/routing"
)

// routesReport is the JSON of tern routes; costs are expected one-way milliseconds.
type routesReport struct {
	From        string         `json:"from"`
	To          string         `json:"to"`
	Paths       []routing.Path `json:"paths"`
	TotalCostMS float64        `json:"total_cost_ms"`
	Disjoint    bool           `json:"disjoint"`
	Shared      []string       `json:"shared"`
}

// routesQuestion is what the flags ask.
type routesQuestion struct {
	graph, policy, app, from, to string
	asJSON                       bool
}

func routesCommand() *cobra.Command {
	var q routesQuestion
	cmd := &cobra.Command{
		Use:   "routes --graph FILE --from A --to B",
		Short: "Compute a path set offline, and say why it is this one",
		Long: "The graph is a matrix of round trips (CSV: from,to,rtt_ms[,loss]; every node is in a region of its own name) or what\n" +
			"tern export graph writes; - is standard input. Costs are one-way milliseconds: half the round trip, and what jitter,\n" +
			"loss, load and the operator's prices add. With --policy, its bounds, drained and cordoned nodes hold; with --app, paths\n" +
			"stay inside the app's fence. Exit status 1: there is no path.",
		Example: "  tern routes --graph rtt.csv --from eu-central-1 --to ap-southeast-1\n" +
			"  tern export graph | tern routes --graph - --from fra1 --to sin1 --policy policy.yaml --app demo --json",
		Args: args(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error { return q.answer(cmd) },
	}
	cmd.Flags().StringVar(&q.graph, "graph", "", "matrix of round trips (CSV) or exported graph (JSON)")
	cmd.Flags().StringVar(&q.from, "from", "", "ingress")
	cmd.Flags().StringVar(&q.to, "to", "", "egress")
	cmd.Flags().StringVar(&q.policy, "policy", "", "policy document whose bounds and node states hold")
	cmd.Flags().StringVar(&q.app, "app", "", "app of the policy whose fence holds")
	cmd.Flags().BoolVar(&q.asJSON, "json", false, "print JSON")
	return cmd
}

func (q *routesQuestion) answer(cmd *cobra.Command) error {
	if q.graph == "" || q.from == "" || q.to == "" {
		return usageError{errors.New("--graph FILE, --from A and --to B are needed")}
	}
	if q.app != "" && q.policy == "" {
		return usageError{errors.New("--app names an app of a policy: give --policy FILE too")}
	}
	g, err := q.readGraph(cmd.InOrStdin())
	if err != nil {
		return err
	}
	limits := routing.Constraints{AnyRegion: true}
	if q.policy != "" {
		doc, err := os.ReadFile(q.policy)
		if err != nil {
			return err
		}
		p, err := control.Parse(doc)
		if err != nil {
			return fmt.Errorf("%s: %w", q.policy, err)
		}
		var bounds []routing.Bound
		if limits, bounds, err = node.RouteLimits(p, q.app); err != nil {
			return fmt.Errorf("%s: %w", q.policy, err)
		}
		g = g.Under(bounds)
	}
	limits.MaxPaths, limits.MaxRelays = 3, 2
	set := g.PathSet(q.from, q.to, limits)
	report := routesReport{From: q.from, To: q.to, Paths: set.Paths, Disjoint: set.Disjoint, Shared: append([]string{}, set.Shared...)}
	if report.Paths == nil {
		report.Paths = []routing.Path{}
	}
	for _, p := range set.Paths {
		report.TotalCostMS += p.CostMS
	}
	if q.asJSON {
		if err := printJSON(cmd.OutOrStdout(), report); err != nil {
			return err
		}
		if len(set.Paths) == 0 {
			return quietError{errors.New("no path")}
		}
		return nil
	}
	err = printPathSet(cmd.OutOrStdout(), set.Paths, set.Disjoint, set.Shared)
	q.explain(cmd.OutOrStdout(), g, limits, set, report.TotalCostMS)
	return err
}

func (q *routesQuestion) readGraph(stdin io.Reader) (*routing.Graph, error) {
	in := stdin
	if q.graph != "-" {
		f, err := os.Open(q.graph)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	g, err := routing.ReadGraph(in)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", q.graph, err)
	}
	for _, n := range []string{q.from, q.to} {
		if !g.Has(n) {
			return nil, fmt.Errorf("%s names no node %q", q.graph, n)
		}
	}
	if q.from == q.to {
		return nil, usageError{errors.New("--from and --to are the same node")}
	}
	return g, nil
}

// explain says what the costs are made of, why it is this set and not the next best, and which nodes were out of the question.
func (q *routesQuestion) explain(w io.Writer, g *routing.Graph, limits routing.Constraints, set routing.PathSet, total float64) {
	for i, p := range set.Paths {
		fmt.Fprintf(w, "\npath %d costs %.2f ms:\n", i+1, p.CostMS)
		for _, part := range g.Parts(p) {
			if part.From == part.To {
				fmt.Fprintf(w, "  through %s: %+.2f for its load and the policy's bounds\n", part.From, part.RestMS)
				continue
			}
			fmt.Fprintf(w, "  %s > %s: %.2f delay", part.From, part.To, part.DelayMS)
			for _, add := range []struct {
				ms  float64
				why string
			}{{part.JitterMS, "jitter"}, {part.LossMS, "loss"}, {part.RestMS, "load and bounds"}} {
				if add.ms > 0.005 || add.ms < -0.005 {
					fmt.Fprintf(w, " %+.2f %s", add.ms, add.why)
				}
			}
			fmt.Fprintln(w)
		}
	}
	if len(set.Paths) > 0 {
		fmt.Fprintf(w, "\ntotal %.2f ms\n", total)
		fmt.Fprintln(w, q.rival(g, limits, set, total))
	}
	printRuledOut(w, g.RuledOut(q.from, q.to, limits))
}

// rival says in one line what the next best set is, and what is worse about it.
func (q *routesQuestion) rival(g *routing.Graph, limits routing.Constraints, set routing.PathSet, total float64) string {
	next, ok := g.NextBest(q.from, q.to, limits, set)
	if !ok {
		return "next best: there is no other path"
	}
	sum := 0.0
	for _, p := range next.Paths {
		sum += p.CostMS
	}
	change := "without " + strings.Join(next.Without.Nodes, " > ")
	if len(next.Instead.Nodes) > 0 {
		change += fmt.Sprintf(", with %s (%.2f ms)", strings.Join(next.Instead.Nodes, " > "), next.Instead.CostMS)
	}
	switch {
	case len(next.Paths) < len(set.Paths):
		return fmt.Sprintf("next best: %s; only %d of %d paths", change, len(next.Paths), len(set.Paths))
	case len(next.Shared) > 0 && !slices.Equal(next.Shared, set.Shared):
		return fmt.Sprintf("next best: %s; its paths share %s (total %.2f ms, %+.2f)", change, strings.Join(next.Shared, ", "), sum, sum-total)
	}
	return fmt.Sprintf("next best: %s; total %.2f ms, %+.2f", change, sum, sum-total)
}

// printRuledOut lists nodes by the reason that keeps new paths away from them.
func printRuledOut(w io.Writer, out map[string]string) {
	byReason := make(map[string][]string)
	for name, why := range out {
		byReason[why] = append(byReason[why], name)
	}
	for _, why := range slices.Sorted(maps.Keys(byReason)) {
		names := byReason[why]
		slices.Sort(names)
		more := ""
		if len(names) > 10 {
			names, more = names[:10], fmt.Sprintf(" and %d more", len(names)-10)
		}
		fmt.Fprintf(w, "no relay, %s: %s%s\n", why, strings.Join(names, ", "), more)
	}
}

// printPathSet lists paths, and says if there is none or if they share something.
func printPathSet(w io.Writer, paths []routing.Path, disjoint bool, shared []string) error {
	for i, p := range paths {
		fmt.Fprintf(w, "path %d: %s (%.2f ms)\n", i+1, strings.Join(p.Nodes, " > "), p.CostMS)
	}
	switch {
	case len(paths) == 0:
		fmt.Fprintln(w, "no path")
		return quietError{errors.New("no path")}
	case !disjoint:
		fmt.Fprintf(w, "not disjoint: they share %s\n", strings.Join(shared, ", "))
	}
	return nil
}
