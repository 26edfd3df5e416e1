package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/ternmesh/tern/node"
	"github.com/ternmesh/tern/sim/demo"
)

func demoCommand() *cobra.Command {
	o := demo.Options{}
	log := node.LogConfig{Format: "text"}
	cmd := &cobra.Command{
		Use:     "demo",
		Short:   "Run six nodes in six cities over an emulated WAN on this machine, with a page to publish, watch and break things",
		Example: "  tern demo\n  tern demo --headless --for 20s --report report.json",
		Args:    args(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Out = cmd.OutOrStdout()
			o.Logger = node.NewLogger(cmd.ErrOrStderr(), log)
			return demo.Run(cmd.Context(), o)
		},
	}
	cmd.Flags().BoolVar(&o.Headless, "headless", false, "publish, watch and kill a relay without a browser; status 1 if a packet was lost")
	cmd.Flags().DurationVar(&o.For, "for", 20*time.Second, "how long, with --headless")
	cmd.Flags().StringVar(&o.Report, "report", "", "write the figures to this file (JSON), with --headless")
	cmd.Flags().StringVar(&o.Addr, "listen", "127.0.0.1:7999", "address of the page")
	cmd.Flags().StringVar(&log.Level, "log", "error", "log level: debug, info, warn, error")
	return cmd
}
