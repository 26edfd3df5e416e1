package main

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ternmesh/tern/node"
)

func doctorCommand() *cobra.Command {
	var config string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor --config FILE",
		Short: "Examine the host and the peers that a configuration needs, with the remedy for each fault; changes nothing",
		Long: `Examine certificates, key files, the data directory, ports, the clock, kernel settings, privileges for XDP and whether
the nodes of mesh.join can be reached. Run it as the user that runs the node. If the node runs already, its own findings count.
Ends with status 1 if something critical was found.`,
		Example: `  tern doctor --config /etc/tern/node.yaml
  sudo -u tern tern doctor --config /etc/tern/node.yaml --json`,
		Args: args(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadConfig(config)
			if err != nil {
				return err
			}
			checks := node.Examine(cmd.Context(), c)
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), checks)
			} else {
				printChecks(cmd.OutOrStdout(), checks)
			}
			for _, c := range checks {
				if c.Status == node.SeverityCritical {
					return quietError{errors.Join(err, errors.New("critical findings"))}
				}
			}
			return err
		},
	}
	cmd.Flags().StringVarP(&config, "config", "c", "", "configuration file (YAML)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printChecks(w io.Writer, checks []node.Check) {
	for _, c := range checks {
		fmt.Fprintf(w, "%-8s %s: %s\n", c.Status, c.Name, c.What)
		if c.Do != "" {
			fmt.Fprintf(w, "         do: %s\n", c.Do)
		}
	}
}

func portsCommand() *cobra.Command {
	var config string
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "ports --config FILE",
		Short:   "List what a node listens on, and who must reach it: the firewall's list",
		Example: "  tern ports --config /etc/tern/node.yaml",
		Args:    args(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadConfig(config)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), node.Ports(c))
			}
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "PROTOCOL\tADDRESS\tKEY\tWHO MUST REACH IT")
			for _, p := range node.Ports(c) {
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", p.Protocol, p.Listen, p.Key, p.Who)
			}
			return t.Flush()
		},
	}
	cmd.Flags().StringVarP(&config, "config", "c", "", "configuration file (YAML)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
