package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/ternmesh/tern/node"
)

func nodeCommand() *cobra.Command {
	var config string
	cmd := &cobra.Command{
		Use:     "node --config FILE",
		Short:   "Run a node",
		Example: "  tern node --config /etc/tern/node.yaml",
		Args:    args(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadConfig(config)
			if err != nil {
				return err
			}
			n, err := node.New(c, node.Options{Version: version})
			if err != nil {
				return err
			}
			return n.Run(cmd.Context())
		},
	}
	cmd.Flags().StringVarP(&config, "config", "c", "", "configuration file (YAML)")
	return cmd
}

func validateCommand() *cobra.Command {
	var config string
	cmd := &cobra.Command{
		Use:     "validate --config FILE",
		Short:   "Check a configuration file, with the environment's TERN_* overrides, and start nothing",
		Example: "  tern validate --config node.yaml",
		Args:    args(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadConfig(config)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: ok (node %s)\n", config, c.Node)
			return nil
		},
	}
	cmd.Flags().StringVarP(&config, "config", "c", "", "configuration file (YAML)")
	return cmd
}

func loadConfig(file string) (node.Config, error) {
	if file == "" {
		return node.Config{}, usageError{errors.New("--config FILE is needed")}
	}
	return node.LoadConfig(file, os.Environ())
}
