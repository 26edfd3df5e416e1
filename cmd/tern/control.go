package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/spf13/cobra"

	"github.com/ternmesh/tern/control"
	"github.com/ternmesh/tern/mesh/identity"
	"github.com/ternmesh/tern/node"
)

func controlCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "control", Short: "Back up and restore what the voters hold"}
	snapshot := &cobra.Command{Use: "snapshot", Short: "Policy, history and audit log in one file"}
	snapshot.AddCommand(snapshotSaveCommand(), snapshotShowCommand(), snapshotRestoreCommand())
	cmd.AddCommand(snapshot)
	return cmd
}

func snapshotSaveCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:     "save -o FILE",
		Short:   "Save a snapshot from a running voter",
		Long:    "Certificates in it are sealed: keep the key file of at least one voter (control.key_file) as well, apart from it.",
		Example: "  tern control snapshot save -o tern-2026-11-22.snapshot",
		Args:    args(0, "no arguments"),
	}
	base := adminFlag(cmd)
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	cmd.Flags().StringVarP(&file, "output", "o", "", "file to write; must not exist")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if file == "" {
			return usageError{errors.New("-o FILE is needed")}
		}
		var got node.SnapshotFile
		if err := admin(cmd.Context(), *base, http.MethodGet, "/v1/control/snapshot", nil, &got); err != nil {
			return err
		}
		info, err := control.ReadSnapshot(got.Image)
		if err == nil {
			err = control.SaveSnapshotFile(file, got.Image)
		}
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), info)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "saved %s from %s: policy version %d, %d apps, %d changes, audit log to entry %d, %d bytes\n",
			file, got.Node, info.Version, info.Apps, info.History, info.Audit.Seq, len(got.Image))
		return nil
	}
	return cmd
}

func snapshotShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "show FILE",
		Short:   "Check a snapshot file and say what it holds",
		Example: "  tern control snapshot show tern-2026-11-22.snapshot",
		Args:    args(1, "one FILE"),
		RunE: func(cmd *cobra.Command, a []string) error {
			image, err := os.ReadFile(a[0])
			if err != nil {
				return err
			}
			info, err := control.ReadSnapshot(image)
			if err != nil {
				return err
			}
			return printJSON(cmd.OutOrStdout(), info)
		},
	}
}

func snapshotRestoreCommand() *cobra.Command {
	var config string
	cmd := &cobra.Command{
		Use:   "restore --config FILE SNAPSHOT",
		Short: "Make a stopped voter begin with a snapshot, as the only voter",
		Long: "For when all voters, or a majority of them, are lost for good; otherwise start a new voter with an empty data directory, and\n" +
			"the others give it the log. The voter must be stopped and hold no log. Put its key file back first, or that of another voter\n" +
			"as a second line, so that certificates can be opened. Then start it, and the other voters with empty data directories.",
		Example: "  tern control snapshot restore --config /etc/tern/node.yaml tern-2026-11-22.snapshot",
		Args:    args(1, "one SNAPSHOT"),
	}
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	cmd.Flags().StringVarP(&config, "config", "c", "", "configuration file of the voter")
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		c, err := loadConfig(config)
		if err != nil {
			return err
		}
		id, err := identity.Load(c.Identity.CA, c.Identity.Cert, c.Identity.Key)
		if err != nil {
			return err
		}
		if !c.Control.Voter {
			return fmt.Errorf("%s is not a voter (control.voter): restore on one that is", c.Node)
		}
		image, err := os.ReadFile(a[0])
		if err != nil {
			return err
		}
		info, err := control.RestoreSnapshot(c.DataDir, id.Mesh, c.Node, image)
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), info)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s begins with policy version %d, %d apps: start it, then the other voters with empty data directories\n", c.Node, info.Version, info.Apps)
		return nil
	}
	return cmd
}
