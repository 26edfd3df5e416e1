package main

import (
	"bytes"
	"encoding/json"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/ternmesh/tern/routing"
)

func exportCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "export", Short: "Write what a node knows to standard output, for other tools"}
	cmd.AddCommand(exportGraphCommand())
	return cmd
}

func exportGraphCommand() *cobra.Command {
	var matrix bool
	cmd := &cobra.Command{
		Use:   "graph",
		Short: "Write the measured graph of nodes and links, as a node sees it now",
		Long: "As JSON, with everything that routing knows; tern routes --graph reads it. With --csv as a matrix from,to,rtt_ms,loss\n" +
			"without regions, risks, jitter and load. The policy's bounds are not part of it: tern routes --policy adds them.",
		Example: "  tern export graph > graph.json\n  tern export graph --csv --admin 127.0.0.1:7902 > rtt.csv",
		Args:    args(0, "no arguments"),
	}
	base := adminFlag(cmd)
	cmd.Flags().BoolVar(&matrix, "csv", false, "write CSV")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var doc json.RawMessage
		if err := admin(cmd.Context(), *base, http.MethodGet, "/v1/graph", nil, &doc); err != nil {
			return err
		}
		if !matrix {
			_, err := cmd.OutOrStdout().Write(append(bytes.TrimSpace(doc), '\n'))
			return err
		}
		g, err := routing.ReadGraph(bytes.NewReader(doc))
		if err != nil {
			return err
		}
		return g.ExportMatrix(cmd.OutOrStdout())
	}
	return cmd
}
