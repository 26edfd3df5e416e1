package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/user"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ternmesh/tern/mesh/identity"
	"github.com/ternmesh/tern/node/authority"
)

// bookCommand adds what every command on an authority's folder needs.
func bookCommand(cmd *cobra.Command, run func(authority.Store) error) *cobra.Command {
	dir := cmd.Flags().String("dir", "authority", "the authority's folder")
	cmd.RunE = func(*cobra.Command, []string) error {
		if _, err := os.Stat(*dir); err != nil {
			return fmt.Errorf("%w: --dir names the authority's folder (tern ca authority makes it)", err)
		}
		store, err := authority.OpenStore(*dir)
		if err != nil {
			return err
		}
		return run(store)
	}
	return cmd
}

// operator is who runs this command, for the audit log.
func operator() string {
	name := os.Getenv("SUDO_USER")
	if u, err := user.Current(); err == nil && name == "" {
		name = u.Username
	}
	host, _ := os.Hostname()
	return cmp.Or(name, "unknown") + "@" + cmp.Or(host, "localhost")
}

func authorityInviteCommand() *cobra.Command {
	o := authority.Order{}
	var ca, out string
	cmd := &cobra.Command{
		Use:   "invite --node NAME --region REGION",
		Short: "Make an invitation: with it, one machine gets its first lease, once",
		Long: "The invitation is a secret: hand it over as a file (--out) and remove it afterwards. It opens this authority alone. Inviting a\n" +
			"node that is enrolled moves it to the machine that uses the invitation; inviting a denied one readmits it.",
		Example: "  tern authority invite --dir /var/lib/tern-authority --ca /etc/tern/ca/ca.crt --node sin1 --region ap --out sin1.invitation",
		Args:    args(0, "no arguments"),
	}
	nodeFlags(cmd, &o.Node, &o.Region, &o.Voter)
	f := cmd.Flags()
	f.StringVar(&o.Fingerprint, "fingerprint", "", "only the machine with this fingerprint (tern lease show prints it)")
	f.DurationVar(&o.Valid, "valid", 24*time.Hour, "how long it can be used, at most 720h")
	f.StringVar(&ca, "ca", "ca/ca.crt", "the mesh's CA certificate")
	f.StringVar(&out, "out", "", "write it to this file (mode 0600) instead of printing it")
	return bookCommand(cmd, func(s authority.Store) error {
		t, err := identity.LoadTrust(ca)
		if err != nil {
			return err
		}
		o.Who = operator()
		secret, err := openSecret(out)
		if err != nil {
			return err
		}
		i, err := s.Invite(time.Now(), t, o)
		if err != nil {
			secret.drop()
			return err
		}
		if out == "" {
			fmt.Fprintln(cmd.OutOrStdout(), i)
			return nil
		}
		if err := secret.keep(i.String() + "\n"); err != nil {
			return fmt.Errorf("%w: the invitation was not kept, make another one", err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s: invitation of node %s, for %v; there: tern enrol --config node.yaml --invitation %s\n", out, o.Node, o.Valid, out)
		return nil
	})
}

// secretFile is an open file for a secret that is not there yet: what cannot be kept should not be made.
type secretFile struct {
	f     *os.File // nil: no file was asked for
	isNew bool
}

// openSecret opens a file that only its owner may read, also where one was that others could. What it holds stays until keep.
// Without a name there is none.
func openSecret(file string) (s secretFile, err error) {
	if file == "" {
		return s, nil
	}
	s.isNew = true
	s.f, err = os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		s.isNew = false
		s.f, err = os.OpenFile(file, os.O_WRONLY, 0o600)
	}
	return s, err
}

// keep makes text all that the file holds.
func (s secretFile) keep(text string) error {
	err := s.f.Chmod(0o600) // before the first byte
	if info, statErr := s.f.Stat(); err == nil && statErr == nil && info.Size() > 0 {
		err = s.f.Truncate(0)
	}
	if err == nil {
		_, err = s.f.WriteString(text)
	}
	return errors.Join(err, s.f.Close())
}

// drop leaves things as they were before openSecret.
func (s secretFile) drop() {
	if s.f == nil {
		return
	}
	_ = s.f.Close()
	if s.isNew {
		_ = os.Remove(s.f.Name())
	}
}

func authorityApproveCommand() *cobra.Command {
	o := authority.Order{}
	cmd := &cobra.Command{
		Use:   "approve --node NAME --region REGION --fingerprint HEX --key HEX",
		Short: "Enrol a machine by the fingerprint and the key that `tern enrol` printed there",
		Example: "  tern authority approve --dir a --node sin1 --region ap --fingerprint 31478b542aee8812097c42cc3b1642c9 \\\n" +
			"    --key 5f1c09ab5f1c09ab5f1c09ab5f1c09ab5f1c09ab5f1c09ab5f1c09ab5f1c09ab",
		Args: args(0, "no arguments"),
	}
	nodeFlags(cmd, &o.Node, &o.Region, &o.Voter)
	f := cmd.Flags()
	f.StringVar(&o.Fingerprint, "fingerprint", "", "of the machine, 32 hex digits")
	f.StringVar(&o.Key, "key", "", "id of the node's key, 64 hex digits")
	return bookCommand(cmd, func(s authority.Store) error {
		o.Who = operator()
		if err := s.Approve(time.Now(), o); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "node %s is enrolled; there: tern enrol --config node.yaml\n", o.Node)
		return nil
	})
}

func authorityDenyCommand() *cobra.Command {
	o := authority.Order{}
	cmd := &cobra.Command{
		Use:   "deny --node NAME",
		Short: "Give a node no lease any more; the one that it has runs out",
		Long: "To end a node at once use `tern revoke`. Deny at every authority: they do not tell each other. An invitation or an approval\n" +
			"readmits it.",
		Example: "  tern authority deny --dir a --node sin1 --reason 'sold'",
		Args:    args(0, "no arguments"),
	}
	cmd.Flags().StringVar(&o.Node, "node", "", "name of the node")
	cmd.Flags().StringVar(&o.Reason, "reason", "", "why, for the log")
	return bookCommand(cmd, func(s authority.Store) error {
		o.Who = operator()
		if err := s.Deny(time.Now(), o); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "node %s gets no lease here any more\n", o.Node)
		return nil
	})
}

func authorityListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "Show the machines that the authority knows, and the open invitations",
		Example: "  tern authority list --dir a\n  tern authority list --dir a --json", Args: args(0, "no arguments"),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return bookCommand(cmd, func(s authority.Store) error {
		b, err := s.Book()
		if err != nil {
			return err
		}
		if asJSON {
			return printJSON(cmd.OutOrStdout(), b)
		}
		t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "NODE\tREGION\tVOTER\tFINGERPRINT\tKEY\tENROLLED BY\tLAST LEASE\tFROM\tSTATE")
		for _, node := range slices.Sorted(maps.Keys(b.Machines)) {
			m := b.Machines[node]
			state, last := "ok", "none here"
			if m.Denied != "" {
				state = "denied: " + m.Denied
			}
			if m.Issued > 0 {
				last = time.Unix(m.Issued, 0).UTC().Format(time.RFC3339)
			}
			fmt.Fprintf(t, "%s\t%s\t%v\t%s\t%.16s\t%s\t%s\t%s\t%s\n", node, m.Region, m.Voter, m.Fingerprint, m.Key, m.By, last, orNone(m.From), state)
		}
		for _, i := range b.Invitations {
			fmt.Fprintf(t, "%s\t%s\t%v\t%s\t\t\t\t\tinvited until %s\n", i.Node, i.Region, i.Voter, i.Fingerprint, time.Unix(i.Expires, 0).UTC().Format(time.RFC3339))
		}
		return t.Flush()
	})
}

func authorityAuditCommand() *cobra.Command {
	var asJSON bool
	var last int
	cmd := &cobra.Command{
		Use:     "audit",
		Short:   "Show what was given and changed, and verify that no line of the log was changed or taken out",
		Example: "  tern authority audit --dir a\n  tern authority audit --dir a --json --last 0", Args: args(0, "no arguments"),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a line of JSON for each")
	cmd.Flags().IntVar(&last, "last", 20, "how many lines to show; 0: all")
	return bookCommand(cmd, func(s authority.Store) error {
		var lines []authority.Line
		n, err := s.Audit(func(l authority.Line) error {
			if lines = append(lines, l); last > 0 && len(lines) > last {
				lines = lines[1:]
			}
			return nil
		})
		for _, l := range lines {
			if asJSON {
				err = errors.Join(err, json.NewEncoder(cmd.OutOrStdout()).Encode(l))
				continue
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s %-7s %-16s by %s %s %s\n", time.Unix(l.Time, 0).UTC().Format(time.RFC3339), l.Action, l.Node, l.Who, l.Serial, l.Note)
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "%d lines, the chain is whole\n", n)
		return nil
	})
}
