package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/ternmesh/tern/control/lease"
	"github.com/ternmesh/tern/mesh/identity"
	"github.com/ternmesh/tern/node"
	"github.com/ternmesh/tern/node/enrol"
)

func leaseCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "lease", Short: "Look at this machine's lease, and renew it"}
	cmd.AddCommand(leaseShowCommand(), leaseRenewCommand())
	return cmd
}

// leaseReport is what `tern lease show` prints.
type leaseReport struct {
	Verdict     lease.Verdict `json:"verdict"`
	Good        bool          `json:"good"`
	Why         string        `json:"why,omitempty"`
	Do          string        `json:"do,omitempty"`
	Node        string        `json:"node"`
	File        string        `json:"file"`
	Fingerprint string        `json:"fingerprint"` // of this machine
	Key         string        `json:"key"`         // id of the node's key
	LeaseOf     string        `json:"lease_fingerprint,omitempty"`
	Issuer      string        `json:"issuer,omitempty"`
	Issued      time.Time     `json:"issued,omitzero"`
	Expires     time.Time     `json:"expires,omitzero"`
	DaysLeft    float64       `json:"days_left"`
	Serial      string        `json:"serial,omitempty"` // of the certificate
}

func leaseShowCommand() *cobra.Command {
	var config string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show --config FILE",
		Short: "Judge the lease as the node would now: verdict, days left, this machine's fingerprint, what to do; changes nothing",
		Long: `Judge the lease file as a node does at its start. The verdicts, in the order in which they are looked for: NO_LEASE, BAD_LEASE,
WRONG_MACHINE, VOID_CLOCK, CLOCK_ROLLBACK, EXPIRED, VALID_WARN (less than five days left), VALID. Ends with status 1 if a node
would not start with it.`,
		Example: "  tern lease show --config /etc/tern/node.yaml\n  tern lease show --config /etc/tern/node.yaml --json",
		Args:    args(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := leaseConfig(config)
			if err != nil {
				return err
			}
			r, err := reportLease(c, time.Now())
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), r)
			} else {
				printLease(cmd.OutOrStdout(), r)
			}
			if !r.Good {
				return quietError{errors.Join(err, errors.New("not good"))}
			}
			return err
		},
	}
	cmd.Flags().StringVarP(&config, "config", "c", "", "the node's configuration file (YAML)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func reportLease(c node.Config, now time.Time) (leaseReport, error) {
	p, err := c.LeaseParts("")
	if err != nil {
		return leaseReport{}, err
	}
	v, l, why := p.File.Peek(now)
	r := leaseReport{Verdict: v, Good: v.Good(), Do: v.Do(), Node: c.Node, File: p.File.Path, Fingerprint: p.Fingerprint}
	if why != nil {
		r.Why = why.Error()
	}
	if r.Key, err = identity.KeyID(&p.Key.PublicKey); err != nil {
		return r, err
	}
	if g := l.Grant; g.Expires > 0 {
		r.LeaseOf, r.Issuer = g.Fingerprint, g.Issuer
		r.Issued, r.Expires = time.Unix(g.Issued, 0).UTC(), time.Unix(g.Expires, 0).UTC()
		r.DaysLeft = l.Left(now).Hours() / 24
		if peer, err := p.Trust.NodeOf(g.Certificate); err == nil {
			r.Serial = peer.Serial()
		}
	}
	return r, nil
}

func printLease(w io.Writer, r leaseReport) {
	fmt.Fprintf(w, "%s: lease of node %s in %s\n", r.Verdict, r.Node, r.File)
	if r.Why != "" {
		fmt.Fprintf(w, "  why          %s\n", r.Why)
	}
	if r.Do != "" {
		fmt.Fprintf(w, "  do           %s\n", r.Do)
	}
	if !r.Expires.IsZero() {
		fmt.Fprintf(w, "  ends         %s, in %.1f days\n  issued       %s by authority %s\n  certificate  serial %s\n",
			r.Expires.Format(time.RFC3339), r.DaysLeft, r.Issued.Format(time.RFC3339), r.Issuer, r.Serial)
	}
	fmt.Fprintf(w, "  fingerprint  %s\n  key          %s\n", r.Fingerprint, r.Key)
	if r.LeaseOf != "" && r.LeaseOf != r.Fingerprint {
		fmt.Fprintf(w, "  it is of     %s\n", r.LeaseOf)
	}
}

func leaseRenewCommand() *cobra.Command {
	var config string
	var unlessGood, asJSON bool
	cmd := &cobra.Command{
		Use:   "renew --config FILE",
		Short: "Ask the authorities in turn for a fresh lease, now",
		Long: `A running node renews its lease daily by itself and takes up one that this command got. It is for a node that does not start:
its lease ended while the machine was off, or the clock was set back.`,
		Example: "  tern lease renew --config /etc/tern/node.yaml",
		Args:    args(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := leaseConfig(config)
			if err != nil {
				return err
			}
			p, err := c.LeaseParts("")
			if err != nil {
				return err
			}
			if v, _, _ := p.File.Peek(time.Now()); unlessGood && v.Good() {
				return nil
			}
			round := enrol.Round(cmd.Context(), p.File, p.Client, p.Trust, c.Authorities)
			for _, err := range round.Errors {
				fmt.Fprintln(cmd.ErrOrStderr(), err)
			}
			if round.Lease == nil {
				return fmt.Errorf("no authority gave a lease (%s); the file was left alone", round.Alarm)
			}
			r, err := reportLease(c, time.Now())
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), r)
			}
			printLease(cmd.OutOrStdout(), r)
			return nil
		},
	}
	cmd.Flags().StringVarP(&config, "config", "c", "", "the node's configuration file (YAML)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&unlessGood, "unless-good", false, "do nothing if a node would start with the lease that there is")
	return cmd
}
