package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/ternmesh/tern/control/lease"
	"github.com/ternmesh/tern/mesh/identity"
	"github.com/ternmesh/tern/node"
	"github.com/ternmesh/tern/node/enrol"
)

func enrolCommand() *cobra.Command {
	var config, invitation, runsAs string
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "enrol --config FILE",
		Short: "Get this machine's first lease from one of the configuration's authorities",
		Long: `Get the first lease, with an invitation (tern authority invite) or after an operator's approval. Without an invitation, and
not approved, it prints what the operator must approve, and asks again until --wait is over.

It makes identity.key if it is not there, writes the lease, and with an invitation identity.ca. Run it as the user that runs the
node, or as root: what it writes belongs to the owner of its folder. Folders that are not there it makes; as root, for --user.`,
		Example: `  tern enrol --config /etc/tern/node.yaml --invitation sin1.invitation
  ssh authority tern authority invite --node sin1 --region ap | tern enrol --config node.yaml --invitation -
  tern enrol --config /etc/tern/node.yaml --wait 10m
  sudo tern enrol --config node.yaml --user tern --invitation sin1.invitation`,
		Args: args(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := leaseConfig(config)
			if err != nil {
				return err
			}
			var i *lease.Invitation
			if invitation != "" {
				if i, err = readInvitation(cmd.InOrStdin(), invitation); err != nil {
					return err
				}
			}
			if err := makeFolders(cmd, c, runsAs); err != nil {
				return err
			}
			return enrolMachine(cmd, c, i, wait)
		},
	}
	cmd.Flags().StringVarP(&config, "config", "c", "", "the node's configuration file (YAML)")
	cmd.Flags().StringVar(&invitation, "invitation", "", "file with the invitation; - reads standard input")
	cmd.Flags().DurationVar(&wait, "wait", 0, "without an invitation: how long to wait for the approval")
	cmd.Flags().StringVar(&runsAs, "user", "", "as root: the user that runs the node, whose the folders are that have to be made")
	return cmd
}

// makeFolders makes those of the configuration that are not there, for the user that runs the node.
func makeFolders(cmd *cobra.Command, c node.Config, runsAs string) error {
	var owner *user.User
	if runsAs != "" {
		if os.Geteuid() != 0 {
			return usageError{errors.New("--user is for root: run tern enrol as the user that runs the node")}
		}
		var err error
		if owner, err = user.Lookup(runsAs); err != nil {
			return usageError{fmt.Errorf("--user: %w", err)}
		}
	}
	for _, dir := range []string{c.DataDir, filepath.Dir(c.LeaseFile()), filepath.Dir(c.Identity.Key), filepath.Dir(c.Identity.CA)} {
		made, err := enrol.MakeFolder(dir, owner)
		if err != nil {
			return err
		}
		if made && owner == nil && ownedByRoot(dir) {
			fmt.Fprintf(cmd.ErrOrStderr(), "made %s, which only root can enter: if another user runs the node, `chown -R USER %s` after this; --user does that\n", dir, dir)
		}
	}
	return nil
}

func ownedByRoot(dir string) bool {
	info, err := os.Stat(dir)
	if err != nil {
		return false
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	return ok && s.Uid == 0
}

// leaseConfig reads a configuration that names authorities.
func leaseConfig(file string) (node.Config, error) {
	c, err := loadConfig(file)
	if err == nil && len(c.Authorities) == 0 {
		err = fmt.Errorf("%s names no authorities: this node lives by its certificate of `tern ca issue`, there is no lease", file)
	}
	return c, err
}

// readInvitation takes it from a file, so that it stands in no list of processes.
func readInvitation(stdin io.Reader, file string) (*lease.Invitation, error) {
	in := stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("--invitation: %w", err)
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, 8<<10))
	if err != nil {
		return nil, fmt.Errorf("--invitation: %w", err)
	}
	i, err := lease.ParseInvitation(string(b))
	return &i, err
}

// askAgain is how often an unapproved machine asks.
const askAgain = 10 * time.Second

func enrolMachine(cmd *cobra.Command, c node.Config, i *lease.Invitation, wait time.Duration) error {
	client, err := c.LeaseClient("", true)
	if err != nil {
		return err
	}
	if err := enrol.SameOwner(c.Identity.Key); err != nil {
		return err
	}
	l, err := firstLease(cmd, c, client, i, wait)
	if err != nil {
		return err
	}
	p, err := c.LeaseParts("")
	if err != nil {
		return err
	}
	if err := errors.Join(enrol.SameOwner(c.Identity.CA), p.File.Put(l)); err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "node %s is enrolled at authority %s: lease %s until %s; it renews itself while the node runs\n",
		c.Node, l.Grant.Issuer, p.File.Path, time.Unix(l.Grant.Expires, 0).UTC().Format(time.RFC3339))
	return nil
}

// firstLease asks once, or without an invitation until the approval or the end of wait.
func firstLease(cmd *cobra.Command, c node.Config, client enrol.Client, i *lease.Invitation, wait time.Duration) (lease.Lease, error) {
	ctx, cancel := context.WithTimeout(cmd.Context(), max(wait, time.Minute))
	defer cancel()
	until := time.Now().Add(wait)
	for said := false; ; said = true {
		l, _, err := client.First(ctx, c.Authorities, c.Identity.CA, i)
		if err == nil || i != nil || !errors.Is(err, lease.ErrNotListed) {
			return l, err
		}
		if !said {
			key, keyErr := identity.KeyID(&client.Key.PublicKey)
			if keyErr != nil {
				return l, keyErr
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "this machine is not enrolled. On an authority's host, its operator runs\n"+
				"  tern authority approve --dir DIR --node %s --region REGION --fingerprint %s \\\n    --key %s\n", c.Node, client.Fingerprint, key)
		}
		if time.Now().Add(askAgain).After(until) {
			return l, err
		}
		select {
		case <-time.After(askAgain):
		case <-ctx.Done():
			return l, err
		}
	}
}
