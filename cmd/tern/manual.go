package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func manualCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:     "man --dir DIR",
		Short:   "Write the manual pages, one per command (section 1)",
		Example: "  tern man --dir /usr/local/share/man/man1",
		Args:    args(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dir == "" {
				return usageError{fmt.Errorf("--dir DIR is needed")}
			}
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true
			// The date is the build's, or none: two builds of one version make the same pages.
			day := time.Unix(0, 0).UTC()
			header := &doc.GenManHeader{Title: "TERN", Section: "1", Source: "tern " + version, Manual: "Tern", Date: &day}
			if err := doc.GenManTree(root, header, dir); err != nil {
				return err
			}
			pages, err := filepath.Glob(filepath.Join(dir, "tern*.1"))
			fmt.Fprintf(cmd.OutOrStdout(), "wrote %d pages to %s: man %s\n", len(pages), dir, filepath.Join(dir, "tern.1"))
			return err
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "folder for the pages; made if absent")
	return cmd
}
