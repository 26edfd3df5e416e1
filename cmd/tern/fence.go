package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ternmesh/tern/node"
)

func fenceCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "fence", Short: "Show what nodes do about an app's fence"}
	cmd.AddCommand(fenceProveCommand())
	return cmd
}

func fenceProveCommand() *cobra.Command {
	var app string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "prove --app X",
		Short: "Ask every node about an app's fence and show the evidence",
		Long: "Every node answers with the decisions that media meets there (admission, relay, directory), whether it holds the app's\n" +
			"certificates, the paths in use under this fence and the frames that it refused. Exit status 1 if any of it breaks the fence\n" +
			"or a node does not answer. It shows what nodes do; it cannot show that a node lies.",
		Example: "  tern fence prove --app demo",
		Args:    args(0, "no arguments"),
	}
	base := adminFlag(cmd)
	cmd.Flags().StringVar(&app, "app", "", "the app's id")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if app == "" {
			return usageError{errors.New("--app is needed")}
		}
		var p node.FenceProof
		if err := admin(cmd.Context(), *base, http.MethodGet, "/v1/fence/prove?"+url.Values{"app": {app}}.Encode(), nil, &p); err != nil {
			return err
		}
		err := printProof(cmd.OutOrStdout(), p, asJSON)
		if err == nil && p.Violations+p.Silent > 0 {
			err = quietError{errors.New("not proven")}
		}
		return err
	}
	return cmd
}

func printProof(out io.Writer, p node.FenceProof, asJSON bool) error {
	if asJSON {
		return printJSON(out, p)
	}
	verdict := "holds at every node"
	if p.Silent > 0 {
		verdict = fmt.Sprintf("not known: %d nodes did not answer", p.Silent)
	}
	if p.Violations > 0 {
		verdict = fmt.Sprintf("BROKEN: %d violations", p.Violations)
	}
	fmt.Fprintf(out, "app %s, fence [%s] of policy version %d: %s\n", p.App, strings.Join(p.Regions, ", "), p.Version, verdict)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NODE\tREGION\tFENCE\tVERSION\tADMITS\tRELAYS\tDIRECTORY\tCERTIFICATES\tREFUSED FRAMES\tPATHS")
	for _, e := range p.Nodes {
		if e.Error != "" {
			fmt.Fprintf(t, "%s\t%s\tno answer: %s\n", e.Node, e.Region, e.Error)
			continue
		}
		side := "outside"
		if e.Inside {
			side = "inside"
		}
		var refused uint64
		for _, n := range e.RefusedFrames {
			refused += n
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\t%d\t%d\n", e.Node, e.Region, side, e.PolicyVersion,
			yesNo(e.Admits), yesNo(e.Relays), yesNo(e.InDirectory), yesNo(e.HoldsSecrets), refused, len(e.Paths))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, e := range p.Nodes {
		for _, path := range e.Paths {
			fmt.Fprintf(out, "  path %s (%s), %d frames\n", strings.Join(path.Hops, " > "), strings.Join(path.Regions, " > "), path.Sent)
		}
		for _, v := range e.Violations {
			fmt.Fprintf(out, "  ! %s %s\n", e.Node, v)
		}
		if e.Trouble != "" {
			fmt.Fprintf(out, "  ! %s: %s\n", e.Node, e.Trouble)
		}
	}
	return nil
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
