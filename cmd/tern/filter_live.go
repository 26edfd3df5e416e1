package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ternmesh/tern/ebpf"
	"github.com/ternmesh/tern/node/gate"
)

// watchEvery is how often filter watch asks: well within the time that a node keeps samples.
const watchEvery = 500 * time.Millisecond

func filterWatchCommand() *cobra.Command {
	var asJSON bool
	var during time.Duration
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Show sampled drops as they come: source, class, reason",
		Long: "Shows a sample of the dropped packets (of each class and reason the first and every 64th, at most 100 a second) until\n" +
			"it is interrupted. Sources can be forged.",
		Example: "  tern filter watch\n  tern filter watch --for 10s --json",
		Args:    args(0, "no arguments"),
	}
	base := adminFlag(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	cmd.Flags().DurationVar(&during, "for", 0, "end after this time; 0: when interrupted")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, cancel := cmd.Context(), context.CancelFunc(func() {})
		if during > 0 {
			ctx, cancel = context.WithTimeout(ctx, during)
		}
		defer cancel()
		return watchDrops(ctx, cmd.OutOrStdout(), *base, asJSON)
	}
	return cmd
}

// watchDrops begins with what comes from now on.
func watchDrops(ctx context.Context, w io.Writer, base gate.Target, asJSON bool) error {
	var old []ebpf.Dropped
	if err := admin(ctx, base, http.MethodGet, "/v1/filter/drops", nil, &old); err != nil {
		return err
	}
	last := uint64(0)
	if len(old) > 0 {
		last = old[len(old)-1].Number
	}
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		var drops []ebpf.Dropped
		err := admin(ctx, base, http.MethodGet, fmt.Sprintf("/v1/filter/drops?after=%d", last), nil, &drops)
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			return nil
		}
		if err != nil {
			return err
		}
		if len(drops) > 0 && drops[0].Number > last+1 {
			fmt.Fprintf(w, "# %d samples were gone before they could be shown\n", drops[0].Number-last-1)
		}
		for _, d := range drops {
			last = d.Number
			printDrop(w, d, asJSON)
		}
	}
}

func printDrop(w io.Writer, d ebpf.Dropped, asJSON bool) {
	if asJSON {
		line, _ := json.Marshal(d)
		fmt.Fprintf(w, "%s\n", line)
		return
	}
	source, rule := "unknown", ""
	if d.Source.IsValid() {
		source = d.Source.String()
	}
	if d.Rule.IsValid() {
		rule = " " + d.Rule.String()
	}
	fmt.Fprintf(w, "%s %-4s %-15s %s %s%s\n", d.Time.Format("15:04:05.000"), d.Where, source, d.Class, d.Reason, rule)
}

func filterQuarantineCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "quarantine", Short: "Sources that met their limits again and again, and are kept out for a growing time"}
	cmd.AddCommand(quarantineListCommand(), quarantineRemoveCommand())
	return cmd
}

func quarantineListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the sources in quarantine at a node, why they are there and until when",
		Example: "  tern filter quarantine list",
		Args:    args(0, "no arguments"),
	}
	base := adminFlag(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var list []ebpf.Quarantined
		if err := admin(cmd.Context(), *base, http.MethodGet, "/v1/filter/quarantine", nil, &list); err != nil {
			return err
		}
		if asJSON {
			return printJSON(cmd.OutOrStdout(), list)
		}
		t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "SOURCE\tUNTIL\tSTRIKES\tWHY\tDROPPED\tTOLD BY")
		for _, q := range list {
			fmt.Fprintf(t, "%s\t%s\t%d\t%s %s\t%d\t%s\n", q.Source, q.Until.Format(time.RFC3339), q.Strikes, q.Class, q.Reason, q.Dropped, orNone(q.From))
		}
		return t.Flush()
	}
	return cmd
}

func quarantineRemoveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "remove ADDRESS",
		Short:   "Let a source out of quarantine and forget its strikes; an IPv6 address stands for its /64",
		Long:    "Lets the source out at this node. If this node has told others of it (filter.share_quarantine), it is let out there too.",
		Example: "  tern filter quarantine remove 203.0.113.7",
		Args:    args(1, "the source's address"),
	}
	base := adminFlag(cmd)
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, arguments []string) error {
		a, err := parseSource(arguments[0])
		if err != nil {
			return usageError{err}
		}
		var q ebpf.Quarantined
		if err := admin(cmd.Context(), *base, http.MethodDelete, "/v1/filter/quarantine/"+url.PathEscape(a.String()), nil, &q); err != nil {
			return err
		}
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), q)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s is out of quarantine\n", q.Source)
		return nil
	}
	return cmd
}

// parseSource reads an address, or a range as quarantine list prints it.
func parseSource(text string) (netip.Addr, error) {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p.Addr(), nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return a, fmt.Errorf("%q is not an address", text)
	}
	return a, nil
}
