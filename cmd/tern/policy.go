package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"github.com/ternmesh/tern/control"
	"github.com/ternmesh/tern/node"
)

func policyCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "policy", Short: "Read and change the region policy, through any node"}
	cmd.AddCommand(policyGetCommand(), policyApplyCommand(), policyHistoryCommand(), policySchemaCommand())
	return cmd
}

func policyGetCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "get",
		Example: "  tern policy get\n  tern policy get --json --admin 127.0.0.1:7902",
		Short:   "Print the policy that the node enforces; secrets as fingerprints, which apply takes back",
		Args:    args(0, "no arguments"),
	}
	base := adminFlag(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON with the version")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var d node.PolicyDocument
		if err := admin(cmd.Context(), *base, http.MethodGet, "/v1/policy", nil, &d); err != nil {
			return err
		}
		if asJSON {
			return printJSON(cmd.OutOrStdout(), d)
		}
		text, err := yaml.MarshalWithOptions(d.Policy, yaml.UseJSONMarshaler())
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "# version %d\n%s", d.Version, text)
		return nil
	}
	return cmd
}

func policyApplyCommand() *cobra.Command {
	var file string
	var ifVersion int64
	cmd := &cobra.Command{
		Use:     "apply -f FILE",
		Short:   "Replace the policy as a whole",
		Example: "  tern policy apply -f policy.yaml\n  tern policy apply -f policy.yaml --if-version 7",
		Args:    args(0, "no arguments"),
	}
	base := adminFlag(cmd)
	cmd.Flags().StringVarP(&file, "file", "f", "", "policy document (YAML or JSON), - for standard input")
	cmd.Flags().Int64Var(&ifVersion, "if-version", -1, "refuse if the policy is no longer at this version")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		doc, err := readInput(cmd, file)
		if err != nil {
			return err
		}
		q := url.Values{}
		if ifVersion >= 0 {
			q.Set("if_version", strconv.FormatInt(ifVersion, 10))
		}
		var d node.PolicyDocument
		if err := admin(cmd.Context(), *base, http.MethodPut, "/v1/policy?"+q.Encode(), doc, &d); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "policy version %d applied: %d apps, %d regions, %d blocked networks\n", d.Version, len(d.Policy.Apps), len(d.Policy.Regions), len(d.Policy.Blocklist))
		return nil
	}
	return cmd
}

func readInput(cmd *cobra.Command, file string) ([]byte, error) {
	switch file {
	case "":
		return nil, usageError{fmt.Errorf("-f FILE is needed (- for standard input)")}
	case "-":
		return io.ReadAll(cmd.InOrStdin())
	default:
		return os.ReadFile(file)
	}
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
		Use:   "schema",
		Short: "Print the JSON Schema of the policy document, for editors",
		Args:  args(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(control.Schema())
			return err
		},
	}
}
