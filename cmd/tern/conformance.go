package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ternmesh/tern/bench/client"
	"github.com/ternmesh/tern/bench/conformance"
)

func conformanceCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "conformance", Short: "Ask a WHIP or WHEP server, this one or another, the questions of its specification"}
	cmd.AddCommand(conformanceRun(conformance.WHIP), conformanceRun(conformance.WHEP))
	return cmd
}

func conformanceRun(protocol string) *cobra.Command {
	cfg := conformance.Config{Protocol: protocol}
	var tokenFile, publish, publishToken string
	var asJSON bool
	cmd := &cobra.Command{
		Use:     protocol + " --url URL",
		Short:   "Check a " + strings.ToUpper(protocol) + " endpoint; status 0 only if it does all that it must",
		Example: "  tern conformance " + protocol + " --url https://media.example.com/" + protocol + "/demo/stage --token-file token",
		Args:    args(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if cfg.URL == "" {
				return usageError{errors.New("--url is needed: the endpoint to ask")}
			}
			if cfg.Token, err = (&certificateFlags{certificate: cfg.Token, keyFile: tokenFile}).text(); err != nil {
				return err
			}
			if publish != "" {
				p, err := publishFor(cmd.Context(), publish, publishToken)
				if err != nil {
					return fmt.Errorf("--publish: %w", err)
				}
				defer p.Close()
			}
			report, err := conformance.Run(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), report)
			} else {
				err = printConformance(cmd, report)
			}
			if err == nil && !report.Conforming {
				return quietError{errors.New("does not conform")}
			}
			return err
		},
	}
	cmd.Flags().StringVar(&cfg.URL, "url", "", "the endpoint")
	cmd.Flags().StringVar(&cfg.Token, "token", "", "bearer token; seen by everybody who can list processes")
	cmd.Flags().StringVar(&tokenFile, "token-file", "", "file with the token")
	cmd.Flags().DurationVar(&cfg.Timeout, "timeout", 10*time.Second, "of one check")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	if protocol == conformance.WHEP {
		cmd.Flags().StringVar(&cfg.EmptyURL, "empty-url", "", "an endpoint where nothing is live")
		cmd.Flags().StringVar(&publish, "publish", "", "WHIP endpoint to send a stream to meanwhile; without it something must be live already")
		cmd.Flags().StringVar(&publishToken, "publish-token", "", "bearer token for --publish")
	}
	return cmd
}

// publishFor sends synthetic packets while viewers are checked.
func publishFor(ctx context.Context, url, token string) (*client.Publisher, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return client.Publish(ctx, client.Config{URL: url, Token: token, Source: client.Synthetic{PerSec: 50}})
}

func printConformance(cmd *cobra.Command, r conformance.Report) error {
	t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	for _, one := range r.Results {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t(%s)\n", one.Outcome, one.Level, one.Name, one.Asks, one.Source)
		if one.Detail != "" {
			fmt.Fprintf(t, "\t\t\t  %s\t\n", one.Detail)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	verdict := "conforms"
	if !r.Conforming {
		verdict = "does not conform"
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s %s: %d passed, %d failed, %d skipped\n", r.URL, verdict,
		r.Count(conformance.Passed), r.Count(conformance.Failed), r.Count(conformance.Skipped))
	return err
}
