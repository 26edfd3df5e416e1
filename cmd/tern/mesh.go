package main

import (
	"fmt"
	"net/http"

	"github.com/spf13/cobra"
)

func meshCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "mesh", Short: "Look after what the nodes of a mesh share"}
	cmd.AddCommand(rotateKeyCommand())
	return cmd
}

func rotateKeyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotate-key",
		Short: "Put a new gossip key into force in the whole mesh",
		Long: "The new key is handed to all nodes at once, and all send with it a minute later, so that nothing is lost. Three keys\n" +
			"are accepted: after the third rotation a node that is kept out of the mesh reads no gossip any more. A day-old key is\n" +
			"replaced without being asked.",
		Example: "  tern mesh rotate-key --admin 127.0.0.1:7902",
		Args:    args(0, "no arguments"),
	}
	base := adminFlag(cmd)
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var answer struct {
			Keys int `json:"keys"`
		}
		if err := admin(cmd.Context(), *base, http.MethodPost, "/v1/mesh/rotate-key", nil, &answer); err != nil {
			return err
		}
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), answer)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "a new gossip key is on its way to all nodes; %d keys are accepted\n", answer.Keys)
		return nil
	}
	return cmd
}
