package main

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ternmesh/tern/control"
	"github.com/ternmesh/tern/mesh/identity"
	"github.com/ternmesh/tern/node"
)

func adminCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "admin", Short: "Say who may use the admin API"}
	token := &cobra.Command{Use: "token", Short: "Make, list and revoke tokens of the admin API; the policy keeps their hashes, so they hold at every node"}
	token.AddCommand(adminTokenCreateCommand(), adminTokenListCommand(), adminTokenRevokeCommand())
	cmd.AddCommand(token)
	return cmd
}

func adminTokenCreateCommand() *cobra.Command {
	var o node.AdminOrder
	var out string
	var expires time.Duration
	cmd := &cobra.Command{
		Use:   "create --name NAME --role ROLE",
		Short: "Make a token and print it once, or write it to a file (--out)",
		Long: "Roles: operator may do everything, auditor reads everything, metrics reads /metrics, app reads what concerns the\n" +
			"apps that --app names. The token is made here; only its SHA-256 leaves this machine.",
		Example: "  tern admin token create --name alice --role operator --out alice.token\n" +
			"  tern admin token create --name prometheus --role metrics --expires 8760h\n" +
			"  tern admin token create --name shop --role app --app shop-live",
		Args: args(0, "no arguments"),
	}
	target := adminFlag(cmd)
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	cmd.Flags().StringVar(&o.Name, "name", "", "whose it is; goes into the history")
	cmd.Flags().StringVar(&o.Role, "role", "", "operator, auditor, metrics or app")
	cmd.Flags().StringSliceVar(&o.Apps, "app", nil, "with role app: the apps that it is limited to")
	cmd.Flags().DurationVar(&expires, "expires", 0, "how long it is good for (0: until it is revoked)")
	cmd.Flags().StringVar(&out, "out", "", "write the token to this file (mode 0600) instead of printing it")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := needed(cmd, "name", "role"); err != nil {
			return err
		}
		var random [32]byte
		_, _ = rand.Read(random[:]) // never fails
		token := "tern-admin-" + base64.RawURLEncoding.EncodeToString(random[:])
		o.Token, o.ExpiresSeconds = control.HashAdminToken(token), expires.Seconds()
		body, err := json.Marshal(o)
		if err != nil {
			return err
		}
		secret, err := openSecret(out)
		if err != nil {
			return err
		}
		var a node.AdminAnswer
		if err := admin(cmd.Context(), *target, http.MethodPost, "/v1/admins", body, &a); err != nil {
			secret.drop()
			return err
		}
		if out == "" && *asJSON {
			return printJSON(cmd.OutOrStdout(), map[string]any{"name": o.Name, "role": o.Role, "token": token, "version": a.Version})
		}
		if out == "" {
			fmt.Fprintln(cmd.OutOrStdout(), token)
			return nil
		}
		if err := secret.keep(token + "\n"); err != nil {
			return fmt.Errorf("%w\nthe token is in the policy but was not kept: tern admin token revoke %s, and again", err, o.Name)
		}
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), map[string]any{"name": o.Name, "role": o.Role, "file": out, "version": a.Version})
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s: token of %s, %s (policy version %d)\n", out, o.Name, o.Role, a.Version)
		return nil
	}
	return cmd
}

func adminTokenListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{Use: "list", Short: "Show whose tokens the policy has", Example: "  tern admin token list --json", Args: args(0, "no arguments")}
	target := adminFlag(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var a node.AdminAnswer
		if err := admin(cmd.Context(), *target, http.MethodGet, "/v1/admins", nil, &a); err != nil {
			return err
		}
		if asJSON {
			return printJSON(cmd.OutOrStdout(), a)
		}
		t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "NAME\tROLE\tAPPS\tEXPIRES")
		for _, one := range a.Admins {
			expires := "never"
			if !one.Expires.IsZero() {
				expires = one.Expires.Format(time.RFC3339)
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", one.Name, one.Role, orNone(strings.Join(one.Apps, ",")), expires)
		}
		return t.Flush()
	}
	return cmd
}

func adminTokenRevokeCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "revoke NAME", Short: "Take somebody's token out of the policy", Example: "  tern admin token revoke alice", Args: args(1, "the name of a token")}
	target := adminFlag(cmd)
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, got []string) error {
		var a node.AdminAnswer
		if err := admin(cmd.Context(), *target, http.MethodDelete, "/v1/admins/"+url.PathEscape(got[0]), nil, &a); err != nil {
			return err
		}
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), a)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "the token of %s counts no more (policy version %d)\n", got[0], a.Version)
		return nil
	}
	return cmd
}

func caAdminCommand() *cobra.Command {
	var ca, out string
	o := identity.AdminOptions{}
	cmd := &cobra.Command{
		Use:     "admin --name NAME --role ROLE",
		Short:   "Make NAME.crt and NAME.key for the admin API over HTTPS",
		Example: "  tern ca admin --name alice --role operator --out alice\n  tern status --admin 192.0.2.1:7902 --admin-ca ca/ca.crt --admin-cert alice/alice.crt --admin-key alice/alice.key",
		Args:    args(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.NotBefore = time.Now().Add(-time.Hour)
			if err := identity.IssueAdmin(ca, out, o); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "made %s/%s.crt and %s/%s.key: %s, valid for %v\n", out, o.Name, out, o.Name, o.Role, o.Valid)
			return nil
		},
	}
	cmd.Flags().StringVar(&ca, "ca", "ca", "folder of the authority")
	cmd.Flags().StringVar(&out, "out", ".", "folder for the two files")
	cmd.Flags().StringVar(&o.Name, "name", "", "whose it is; goes into the history")
	cmd.Flags().StringVar(&o.Role, "role", "", "operator, auditor, metrics or app")
	cmd.Flags().StringSliceVar(&o.Apps, "app", nil, "with role app: the apps that it is limited to")
	cmd.Flags().DurationVar(&o.Valid, "valid", 90*24*time.Hour, "how long the certificate is valid")
	return cmd
}
