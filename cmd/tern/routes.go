package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ternmesh/tern/routing"
)

// routesReport is the JSON of tern routes; costs are expected one-way milliseconds.
type routesReport struct {
	From        string       `json:"from"`
	To          string       `json:"to"`
	Paths       []routesPath `json:"paths"`
	TotalCostMS float64      `json:"total_cost_ms"`
	Disjoint    bool         `json:"disjoint"`
	Shared      []string     `json:"shared"`
}

type routesPath struct {
	Nodes  []string `json:"nodes"`
	CostMS float64  `json:"cost_ms"`
}

func routesCommand() *cobra.Command {
	var file, from, to string
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "routes --graph FILE --from A --to B",
		Short:   "Compute a path set offline from a matrix of round trips (CSV: from,to,rtt_ms[,loss])",
		Example: "  tern routes --graph rtt.csv --from eu-central-1 --to ap-southeast-1",
		Args:    args(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" || from == "" || to == "" {
				return usageError{errors.New("--graph FILE, --from A and --to B are needed")}
			}
			f, err := os.Open(file)
			if err != nil {
				return err
			}
			defer f.Close()
			g, err := routing.ReadMatrix(f)
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			for _, n := range []string{from, to} {
				if !g.Has(n) {
					return fmt.Errorf("%s names no node %q", file, n)
				}
			}
			set := g.PathSet(from, to, routing.Constraints{MaxPaths: 3, MaxRelays: 2, AnyRegion: true})
			return printRoutes(cmd, routesReport{From: from, To: to, Disjoint: set.Disjoint, Shared: append([]string{}, set.Shared...)}, set.Paths, asJSON)
		},
	}
	cmd.Flags().StringVar(&file, "graph", "", "matrix of round trips (CSV)")
	cmd.Flags().StringVar(&from, "from", "", "ingress")
	cmd.Flags().StringVar(&to, "to", "", "egress")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printRoutes(cmd *cobra.Command, r routesReport, paths []routing.Path, asJSON bool) error {
	r.Paths = []routesPath{}
	for _, p := range paths {
		r.Paths = append(r.Paths, routesPath{Nodes: p.Nodes, CostMS: p.CostMS})
		r.TotalCostMS += p.CostMS
	}
	if asJSON {
		return printJSON(cmd.OutOrStdout(), r)
	}
	return printPathSet(cmd.OutOrStdout(), paths, r.Disjoint, r.Shared)
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
