package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ternmesh/tern/ebpf"
)

func filterCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "filter", Short: "Examine the packet filter"}
	cmd.AddCommand(filterVerdictCommand(), filterBenchCommand())
	return cmd
}

func filterVerdictCommand() *cobra.Command {
	var file, packet, mode string
	cmd := &cobra.Command{
		Use:     "verdict --rules FILE --packet HEX",
		Short:   "Say what the filter decides about one packet, and why; offline",
		Example: "  tern filter verdict --rules rules.yaml --packet 0200...0800... --mode go",
		Args:    args(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" || packet == "" {
				return usageError{errors.New("--rules FILE and --packet HEX are needed")}
			}
			data, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			rules, err := ebpf.ParseRules(data)
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			bytes, err := hex.DecodeString(strings.NewReplacer(" ", "", ":", "", "\n", "").Replace(packet))
			if err != nil {
				return usageError{fmt.Errorf("--packet is not hex: %w", err)}
			}
			v, err := ebpf.Judge(rules, mode, bytes)
			if err != nil {
				return err
			}
			return printJSON(cmd.OutOrStdout(), v)
		},
	}
	cmd.Flags().StringVar(&file, "rules", "", "rules (YAML): blocklist, mesh_port, access_port, fragments; members and admitted apply the live rules")
	cmd.Flags().StringVar(&packet, "packet", "", "the packet from its Ethernet header on, in hex")
	cmd.Flags().StringVar(&mode, "mode", "go", "go (the model) or xdp (the kernel program, needs privileges)")
	return cmd
}

func filterBenchCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "bench",
		Short:   "Measure what the kernel program takes per packet, against one that does nothing; attaches nothing",
		Example: "  tern filter bench --json",
		Args:    args(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			report, err := ebpf.Bench()
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), report)
			}
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintf(t, "PACKET\tNS\tRATIO\tVERDICT\ndoes nothing\t%.0f\t1.0\t\n", report.NoopNS)
			for _, c := range report.Cases {
				fmt.Fprintf(t, "%s\t%.0f\t%.1f\t%s\n", c.Name, c.NS, c.Ratio, c.Verdict)
			}
			return t.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
