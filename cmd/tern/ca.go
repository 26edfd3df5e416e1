package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/ternmesh/tern/mesh/identity"
)

func caCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "ca", Short: "Make the mesh's certificate authority and node certificates"}
	cmd.AddCommand(caInitCommand(), caIssueCommand(), caAdminCommand(), caAuthorityCommand())
	return cmd
}

func caInitCommand() *cobra.Command {
	var dir, mesh string
	cmd := &cobra.Command{
		Use:     "init --mesh NAME --dir DIR",
		Short:   "Make ca.crt and ca.key; keep ca.key away from the nodes",
		Example: "  tern ca init --mesh example --dir ca",
		Args:    args(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := identity.InitCA(dir, mesh, time.Now().Add(-time.Hour)); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "made the authority of mesh %s in %s: every node gets ca.crt, none gets ca.key\n", mesh, dir)
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "ca", "folder of the authority")
	cmd.Flags().StringVar(&mesh, "mesh", "tern", "name of the mesh")
	return cmd
}

func caIssueCommand() *cobra.Command {
	var ca, out string
	o := identity.IssueOptions{}
	cmd := &cobra.Command{
		Use:     "issue --node NAME --region REGION",
		Short:   "Make NODE.crt and NODE.key for one node",
		Example: "  tern ca issue --ca ca --node fra1 --region eu --voter --out fra1",
		Args:    args(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := needed(cmd, "node", "region"); err != nil {
				return err
			}
			o.NotBefore = time.Now().Add(-time.Hour)
			if err := identity.Issue(ca, out, o); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "made %s/%s.crt and %s/%s.key, valid for %v\n", out, o.Node, out, o.Node, o.Valid)
			return nil
		},
	}
	cmd.Flags().StringVar(&ca, "ca", "ca", "folder of the authority")
	cmd.Flags().StringVar(&out, "out", ".", "folder for the two files")
	nodeFlags(cmd, &o.Node, &o.Region, &o.Voter)
	cmd.Flags().DurationVar(&o.Valid, "valid", 365*24*time.Hour, "how long the certificate is valid")
	return cmd
}

// nodeFlags say what a node's certificate states.
func nodeFlags(cmd *cobra.Command, node, region *string, voter *bool) {
	cmd.Flags().StringVar(node, "node", "", "name of the node")
	cmd.Flags().StringVar(region, "region", "", "region of the node")
	cmd.Flags().BoolVar(voter, "voter", false, "the node may vote on policy")
}

func caAuthorityCommand() *cobra.Command {
	var ca, out string
	o := identity.AuthorityOptions{}
	cmd := &cobra.Command{
		Use:   "authority --name NAME --out DIR",
		Short: "Make authority.crt and authority.key for a lease authority (tern authority serve)",
		Long: "The certificate's end is the authority's: it gives no lease beyond it, and warns daily in its last three months. To renew,\n" +
			"make it again into the same folder; a running authority takes it up within ten minutes.",
		Example: "  tern ca authority --ca ca --name one --out /var/lib/tern-authority",
		Args:    args(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := needed(cmd, "name"); err != nil {
				return err
			}
			o.NotBefore = time.Now().Add(-time.Hour)
			if err := identity.IssueAuthority(ca, out, o); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "made %s/authority.crt and %s/authority.key of authority %s, valid for %v\n", out, out, o.Name, o.Valid)
			return nil
		},
	}
	cmd.Flags().StringVar(&ca, "ca", "ca", "folder of the mesh's certificate authority")
	cmd.Flags().StringVar(&out, "out", "authority", "the lease authority's folder")
	cmd.Flags().StringVar(&o.Name, "name", "", "name of the lease authority, as leases show it")
	cmd.Flags().DurationVar(&o.Valid, "valid", 455*24*time.Hour, "how long it may serve")
	return cmd
}
