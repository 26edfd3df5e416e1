package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/ternmesh/tern/bench"
)

// benchCommand measures against baselines, each figure a ratio within one run.
func benchCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure this machine against named baselines, as ratios within one run",
	}
	c.AddCommand(benchListCommand(), benchRunCommand(), benchGateCommand(), benchInstructionsCommand(), benchFanoutCommand())
	return c
}

func benchListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the benchmarks",
		Example: "  tern bench list",
		Args:    args(0, "no arguments"),
	}
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		list := []listed{}
		for _, b := range bench.List() {
			list = append(list, listed{b.Name, b.About})
		}
		return printList(cmd.OutOrStdout(), list, *asJSON)
	}
	return cmd
}

func benchRunCommand() *cobra.Command {
	var jsonFile, markdown, plots string
	var repeat int
	c := &cobra.Command{
		Use:     "run NAME",
		Short:   "Run a benchmark (tern bench list) on this machine",
		Example: "  tern bench run braid-loss\n  tern bench run braid-cpu --repeat 7 --json cpu.json",
		Args:    args(1, "one benchmark"),
		RunE: func(cmd *cobra.Command, got []string) error {
			if _, ok := bench.Find(got[0]); !ok {
				return usageError{fmt.Errorf("there is no benchmark %q: tern bench list shows what there is", got[0])}
			}
			if repeat < 1 {
				return usageError{fmt.Errorf("--repeat %d: a figure is taken at least once", repeat)}
			}
			if err := writable(plots, jsonFile, markdown); err != nil {
				return usageError{err}
			}
			r, err := bench.Execute(cmd.Context(), got[0], bench.Options{Repeat: repeat, Version: version, Progress: cmd.ErrOrStderr()})
			if err != nil {
				return err
			}
			if jsonFile != "-" {
				fmt.Fprintln(cmd.OutOrStdout(), r.Markdown())
			}
			if plots != "" {
				if err := r.WritePlots(plots); err != nil {
					return err
				}
			}
			return errors.Join(
				writeUnlessEmpty(jsonFile, r.WriteJSON),
				writeUnlessEmpty(markdown, func(w io.Writer) error { _, err := io.WriteString(w, r.Markdown()); return err }),
			)
		},
	}
	c.Flags().StringVar(&jsonFile, "json", "", "write the result as JSON to this file (-: standard output)")
	c.Flags().StringVar(&markdown, "markdown", "", "write the result as a Markdown table to this file")
	c.Flags().StringVar(&plots, "plots", "", "draw its curves into this folder, as SVG and PNG")
	c.Flags().IntVar(&repeat, "repeat", bench.DefaultRepeat, "how often noisy figures are taken")
	return c
}

// benchGateCommand compares stable figures with the committed ones.
func benchGateCommand() *cobra.Command {
	var file, goFile string
	var write bool
	c := &cobra.Command{
		Use:   "gate",
		Short: "Compare figures that do not depend on the machine's speed with the committed ones; status 1 past 10 %",
		Example: "  tern bench gate\n" +
			"  go test -run '^$' -bench . -benchmem -benchtime 100x ./routing ./media > go.txt && tern bench gate --go go.txt\n" +
			"  tern bench gate --write",
		Args: args(0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			results, err := gatedResults(cmd.Context(), goFile)
			if err != nil {
				return err
			}
			if write {
				return writeTo(file, func(w io.Writer) error { return printJSON(w, bench.Commit(results)) })
			}
			text, err := os.ReadFile(file)
			if err != nil {
				return fmt.Errorf("the committed figures: %w (run it at the root of the repository, or name them with --file)", err)
			}
			var committed bench.Committed
			if err := json.Unmarshal(text, &committed); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			failed := 0
			for _, l := range bench.Gate(results, committed) {
				fmt.Fprintln(cmd.OutOrStdout(), l)
				if l.Fails {
					failed++
				}
			}
			if failed > 0 {
				return fmt.Errorf("%d figures are more than %.0f %% worse than the committed ones, or new: mend it, or commit what tern bench gate --write makes and say why", failed, 100*bench.GateTolerance)
			}
			return nil
		},
	}
	c.Flags().StringVar(&file, "file", "bench/gate.json", "the committed figures")
	c.Flags().StringVar(&goFile, "go", "", "also what go test -bench -benchmem wrote to this file: allocations and bytes")
	c.Flags().BoolVar(&write, "write", false, "write the figures instead of comparing them")
	return c
}

// gatedResults runs the gated benchmarks, and reads those of Go.
func gatedResults(ctx context.Context, goFile string) (results []*bench.Result, err error) {
	for _, b := range bench.List() {
		if !b.Gated {
			continue
		}
		r, err := bench.Execute(ctx, b.Name, bench.Options{Repeat: 1, Version: version})
		if err != nil {
			return nil, err
		}
		results = append(results, r)
	}
	if goFile == "" {
		return results, nil
	}
	text, err := os.ReadFile(goFile)
	if err != nil {
		return nil, err
	}
	of, err := bench.GoResults(bytes.NewReader(text))
	return append(results, of...), err
}

// benchFanoutCommand is the baseline of edge_servers.go, which starts it as a process.
func benchFanoutCommand() *cobra.Command {
	var listen string
	var raw bool
	c := &cobra.Command{
		Use:     "fanout",
		Short:   "Serve WHIP and WHEP with the least that pion can be: a baseline, for loopback alone",
		Example: "  tern bench fanout --listen 127.0.0.1:8088\n  tern load --viewers 50 --whip http://127.0.0.1:8088/whip/a --whep http://127.0.0.1:8088/whep/a",
		Args:    args(0, "flags only"),
		RunE:    func(cmd *cobra.Command, _ []string) error { return bench.ServeFanout(cmd.Context(), listen, raw) },
	}
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:8088", "address of HTTP and of UDP media")
	c.Flags().BoolVar(&raw, "raw", false, "no WebRTC: RTP as it comes to whoever said hello, the floor under any server (tern load --headers with udp://ADDRESS)")
	return c
}
