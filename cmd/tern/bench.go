package main

import (
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
	c.AddCommand(benchListCommand(), benchRunCommand())
	return c
}

func benchListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the benchmarks",
		Example: "  tern bench list",
		Args:    args(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, b := range bench.List() {
				fmt.Fprintf(cmd.OutOrStdout(), "%-18s %s\n", b.Name, b.About)
			}
			return nil
		},
	}
}

func benchRunCommand() *cobra.Command {
	var jsonFile, markdown string
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
			r, err := bench.Execute(cmd.Context(), got[0], bench.Options{Repeat: repeat, Version: version})
			if err != nil {
				return err
			}
			if jsonFile != "-" {
				fmt.Fprintln(cmd.OutOrStdout(), r.Markdown())
			}
			return errors.Join(
				writeUnlessEmpty(jsonFile, r.WriteJSON),
				writeUnlessEmpty(markdown, func(w io.Writer) error { _, err := io.WriteString(w, r.Markdown()); return err }),
			)
		},
	}
	c.Flags().StringVar(&jsonFile, "json", "", "write the result as JSON to this file (-: standard output)")
	c.Flags().StringVar(&markdown, "markdown", "", "write the result as a Markdown table to this file")
	c.Flags().IntVar(&repeat, "repeat", bench.DefaultRepeat, "how often noisy figures are taken")
	return c
}

// writeUnlessEmpty writes to the file, to standard output for -, nowhere for "".
func writeUnlessEmpty(file string, write func(io.Writer) error) error {
	switch file {
	case "":
		return nil
	case "-":
		return write(os.Stdout)
	}
	return writeTo(file, write)
}
