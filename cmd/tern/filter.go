package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ternmesh/tern/ebpf"
)

func filterCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "filter", Short: "Examine the packet filter"}
	cmd.AddCommand(filterStatusCommand(), filterTopCommand(), filterVerdictCommand(), filterCheckCommand(), filterBenchCommand(),
		filterWatchCommand(), filterQuarantineCommand())
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
	cmd.Flags().StringVar(&file, "rules", "", "rules (YAML): blocklist, mesh_port, access_port, fragments; members and admitted apply the live rules, quarantined counts in them")
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
			for _, c := range append(report.Cases, report.Relayed) {
				fmt.Fprintf(t, "%s\t%.0f\t%.1f\t%s\n", c.Name, c.NS, c.Ratio, c.Verdict)
			}
			return t.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func filterStatusCommand() *cobra.Command {
	return filterReportCommand("status", "Show what filters, who is known, and what was passed and dropped, by class and reason", printFilterStatus)
}

func filterTopCommand() *cobra.Command {
	return filterReportCommand("top", "Show the sources that most of the sampled drops came from", printFilterTop)
}

// filterReportCommand asks a node for its filter's report and prints one view of it.
func filterReportCommand(use, short string, show func(io.Writer, ebpf.Report)) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: use, Short: short, Example: "  tern filter " + use + " --admin 127.0.0.1:7902", Args: args(0, "no arguments"),
	}
	base := adminFlag(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var r ebpf.Report
		if err := admin(cmd.Context(), *base, http.MethodGet, "/v1/filter", nil, &r); err != nil {
			return err
		}
		if asJSON {
			return printJSON(cmd.OutOrStdout(), r)
		}
		show(cmd.OutOrStdout(), r)
		return nil
	}
	return cmd
}

func printFilterStatus(w io.Writer, r ebpf.Report) {
	fmt.Fprintf(w, "filter: %s", r.Mode)
	if r.Why != "" {
		fmt.Fprintf(w, " (%s)", r.Why)
	}
	fmt.Fprintf(w, "\nblocklist: %d entries; known: %d mesh addresses, %d clients; in quarantine: %d sources\n", r.Rules, r.Peers, r.Clients, r.Quarantined)
	if r.Relayed > 0 {
		fmt.Fprintf(w, "relayed in the kernel: %d path frames\n", r.Relayed)
	}
	for _, i := range r.Interfaces {
		fmt.Fprintf(w, "interface %s: %s %s\n", i.Interface, orNone(i.Mode), i.Why)
	}
	if r.NoRoom > 0 || r.KernelErrors > 0 {
		fmt.Fprintf(w, "ALARM: %d addresses found no room, the kernel refused %d\n", r.NoRoom, r.KernelErrors)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nWHERE\tVERDICT\tCLASS\tREASON\tPACKETS")
	for _, c := range r.Counts {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\n", c.Where, c.Verdict, c.Class, c.Reason, c.Packets)
	}
	_ = t.Flush()
}

func printFilterTop(w io.Writer, r ebpf.Report) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SOURCE\tSAMPLES\tCLASS\tREASON\tLAST SEEN")
	for _, s := range r.Top {
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\n", s.Source, s.Samples, s.Class, s.Reason, s.Last.Format(time.RFC3339))
	}
	_ = t.Flush()
	fmt.Fprintf(w, "%d drops sampled, %d samples lost\n", r.Samples, r.SamplesLost)
}

func filterCheckCommand() *cobra.Command {
	var file string
	var own []string
	var force bool
	cmd := &cobra.Command{
		Use:   "check --rules FILE",
		Short: "Check rules before they are used: malformed and overlapping ranges, and whom they would lock out; offline",
		Long: "Refuses rules that block every address under members, or an operator's own address: those of --own, and where\n" +
			"this session came from by SSH. --force says that this is meant.",
		Example: "  tern filter check --rules rules.yaml --own 198.51.100.7",
		Args:    args(0, "no arguments"),
	}
	cmd.Flags().StringVar(&file, "rules", "", "rules (YAML): blocklist, members")
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	cmd.Flags().StringSliceVar(&own, "own", nil, "addresses that must not be blocked")
	cmd.Flags().BoolVar(&force, "force", false, "accept rules that lock out every member or the operator")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := needed(cmd, "rules"); err != nil {
			return err
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		rules, err := ebpf.ParseRules(data)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		operators, err := operatorAddrs(own, os.Getenv("SSH_CONNECTION"))
		if err != nil {
			return usageError{err}
		}
		findings, _ := rules.Validate()
		if *asJSON {
			if err := printJSON(cmd.OutOrStdout(), map[string]any{"ranges": len(rules.Blocklist), "findings": append([]ebpf.Finding{}, findings...)}); err != nil {
				return err
			}
		} else {
			printRuleFindings(cmd.OutOrStdout(), len(rules.Blocklist), findings)
		}
		if err := rules.CheckLockout(rules.Members, operators); err != nil {
			if !force {
				return fmt.Errorf("%w\n--force says that this is meant", err)
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "forced: %v\n", err)
		}
		return nil
	}
	return cmd
}

func printRuleFindings(w io.Writer, ranges int, findings []ebpf.Finding) {
	for _, f := range findings {
		fmt.Fprintf(w, "%s: %s\n", f.Problem, f.Detail)
	}
	fmt.Fprintf(w, "%d ranges, %s\n", ranges, counted(len(findings), "finding"))
}

// operatorAddrs are the addresses that an operator names, and the one that an SSH session comes from.
func operatorAddrs(own []string, ssh string) (out []netip.Addr, err error) {
	if fields := strings.Fields(ssh); len(fields) > 0 {
		own = append(own, fields[0])
	}
	for _, text := range own {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("%q is not an address", text)
		}
		out = append(out, a)
	}
	return out, nil
}
