package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ternmesh/tern/node"
	"github.com/ternmesh/tern/node/gate"
)

func revokeCommand() *cobra.Command {
	var o node.RevokeOrder
	cmd := &cobra.Command{
		Use:   "revoke [NODE]",
		Short: "Take a node, or one certificate, out of the mesh at once",
		Long: "Members close their connections with it, relay nothing of it and refuse it from then on, until `tern readmit`.\n" +
			"A node whose certificate is replaced because it was stolen is revoked by --serial, so that it keeps its name.",
		Example: "  tern revoke sin1 --reason stolen\n  tern revoke --serial 5f1c09ab --reason 'key was copied'\n" +
			"  openssl x509 -noout -serial -in sin1.crt   # shows a certificate's serial number",
		Args: optional("the name of a node, or --serial"),
	}
	base := adminFlag(cmd)
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	cmd.Flags().StringVar(&o.Serial, "serial", "", "serial number of one certificate, in hex")
	cmd.Flags().StringVar(&o.Reason, "reason", "", "why, for those who read the policy")
	cmd.Flags().BoolVar(&o.Force, "force", false, "also a name that nobody knows, or the node that is asked")
	cmd.RunE = func(cmd *cobra.Command, got []string) error {
		if len(got) == 1 {
			o.Node = got[0]
		}
		o.Serial = tidySerial(o.Serial)
		if err := oneOf(o.Node, o.Serial); err != nil {
			return err
		}
		body, err := json.Marshal(o)
		if err != nil {
			return err
		}
		return sendRevocation(cmd, *base, http.MethodPost, "/v1/revoked", body, *asJSON)
	}
	return cmd
}

func readmitCommand() *cobra.Command {
	var serial string
	cmd := &cobra.Command{
		Use:     "readmit [NODE]",
		Short:   "Undo tern revoke",
		Example: "  tern readmit sin1",
		Args:    optional("the name of a node, or --serial"),
	}
	base := adminFlag(cmd)
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	cmd.Flags().StringVar(&serial, "serial", "", "serial number of one certificate, in hex")
	cmd.RunE = func(cmd *cobra.Command, got []string) error {
		q, node := url.Values{}, strings.Join(got, "")
		if err := oneOf(node, serial); err != nil {
			return err
		}
		if node != "" {
			q.Set("node", node)
		} else {
			q.Set("serial", tidySerial(serial))
		}
		return sendRevocation(cmd, *base, http.MethodDelete, "/v1/revoked?"+q.Encode(), nil, *asJSON)
	}
	return cmd
}

// oneOf refuses no name, and two.
func oneOf(node, serial string) error {
	switch {
	case node == "" && serial == "":
		return usageError{errors.New("name a node, or a certificate by --serial")}
	case node != "" && serial != "":
		return usageError{errors.New("name a node or a certificate (--serial), not both")}
	}
	return nil
}

// tidySerial takes what tools print (capitals, colons, leading zeros) and gives what the policy holds.
func tidySerial(s string) string {
	return strings.TrimLeft(strings.ToLower(strings.ReplaceAll(s, ":", "")), "0")
}

func sendRevocation(cmd *cobra.Command, base gate.Target, method, path string, body []byte, asJSON bool) error {
	var a node.RevokedAnswer
	if err := admin(cmd.Context(), base, method, path, body, &a); err != nil {
		return err
	}
	if asJSON {
		return printJSON(cmd.OutOrStdout(), a)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "policy version %d revokes %d nodes and certificates\n", a.Version, len(a.Revoked))
	for _, r := range a.Revoked {
		fmt.Fprintf(cmd.OutOrStdout(), "  %s%s %s\n", r.Node, r.Serial, r.Reason)
	}
	return nil
}

// optional allows one positional argument at most.
func optional(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, got []string) error {
		if len(got) > 1 {
			return usageError{fmt.Errorf("%s takes %s: see %s --help", cmd.CommandPath(), what, cmd.CommandPath())}
		}
		return nil
	}
}
