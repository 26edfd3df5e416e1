package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ternmesh/tern/control"
	"github.com/ternmesh/tern/node"
)

func policyCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "policy", Short: "Read and change the region policy, through any node"}
	cmd.AddCommand(policyGetCommand(), policyDiffCommand(), policyApplyCommand(), policyHistoryCommand(), policyRollbackCommand(),
		policyExplainCommand(), policySchemaCommand())
	return cmd
}

func policyGetCommand() *cobra.Command {
	var asJSON, committed bool
	var version uint64
	cmd := &cobra.Command{
		Use:     "get",
		Example: "  tern policy get\n  tern policy get --version 6\n  tern policy get --json --admin 127.0.0.1:7902",
		Short:   "Print the policy that the node enforces; secrets as fingerprints, which apply takes back",
		Args:    args(0, "no arguments"),
	}
	base := adminFlag(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON with the version")
	cmd.Flags().Uint64Var(&version, "version", 0, "a version of the history instead")
	cmd.Flags().BoolVar(&committed, "committed", false, "what the voters agreed on last, whatever this node enforces")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		q := url.Values{}
		if version > 0 {
			q.Set("version", strconv.FormatUint(version, 10))
		}
		if committed {
			q.Set("committed", "1")
		}
		var d node.PolicyDocument
		if err := admin(cmd.Context(), *base, http.MethodGet, "/v1/policy?"+q.Encode(), nil, &d); err != nil {
			return err
		}
		if asJSON {
			return printJSON(cmd.OutOrStdout(), d)
		}
		d.Policy.Version = d.Version
		text, err := control.Render(d.Policy)
		if err != nil {
			return err
		}
		_, err = cmd.OutOrStdout().Write(text)
		return err
	}
	return cmd
}

func policyHistoryCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "history",
		Example: "  tern policy history",
		Short:   "Print who changed the policy and when",
		Args:    args(0, "no arguments"),
	}
	base := adminFlag(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var changes []control.Change
		if err := admin(cmd.Context(), *base, http.MethodGet, "/v1/policy/history", nil, &changes); err != nil {
			return err
		}
		if asJSON {
			return printJSON(cmd.OutOrStdout(), changes)
		}
		t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "VERSION\tWHEN\tWHO\tBYTES\tSHA-256")
		for _, c := range changes {
			fmt.Fprintf(t, "%d\t%s\t%s\t%d\t%.16s\n", c.Version, c.When.Format(time.RFC3339), c.Who, c.Bytes, c.SHA256)
		}
		return t.Flush()
	}
	return cmd
}

func policySchemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "schema",
		Example: "  tern policy schema > policy.schema.json",
		Short:   "Print the JSON Schema of the policy document, for editors",
		Args:    args(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(control.Schema())
			return err
		},
	}
}
