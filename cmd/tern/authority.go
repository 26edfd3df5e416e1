package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/ternmesh/tern/control/lease"
	"github.com/ternmesh/tern/mesh/identity"
	"github.com/ternmesh/tern/node"
	"github.com/ternmesh/tern/node/authority"
	"github.com/ternmesh/tern/node/gate"
)

func authorityCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "authority", Short: "Give nodes their leases, and say which machines may have one"}
	cmd.AddCommand(authorityServeCommand(), authorityInviteCommand(), authorityApproveCommand(), authorityDenyCommand(),
		authorityListCommand(), authorityAuditCommand())
	return cmd
}

// authorityFlags are those of `tern authority serve`.
type authorityFlags struct {
	dir, ca, listen, format string
	term                    time.Duration
	follow                  gate.Target
}

func authorityServeCommand() *cobra.Command {
	var f authorityFlags
	cmd := &cobra.Command{
		Use:   "serve --dir DIR --ca CADIR",
		Short: "Serve leases over TLS until SIGTERM or SIGINT",
		Long: `Serve leases to the machines that the book in DIR knows (tern authority invite, approve, deny). It needs the CA with its key
in CADIR, and authority.crt and authority.key in DIR (tern ca authority). Any number of authorities may serve one mesh, each
with a folder of its own: a machine that one enrolled is renewed by the others.

With --follow it asks a node of the mesh every minute what the policy revokes, with a token of role auditor, and renews none of
that. It ends with status 1 when its own time is over.`,
		Example: `  tern authority serve --dir /var/lib/tern-authority --ca /etc/tern/ca --listen 0.0.0.0:7903
  tern authority serve --dir a --ca ca --follow 192.0.2.1:7902 --token-file auditor.token --admin-ca ca/ca.crt`,
		Args: args(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error { return f.serve(cmd.Context(), cmd) },
	}
	cmd.Flags().StringVar(&f.dir, "dir", "authority", "the authority's folder: its certificate, its book, its audit log")
	cmd.Flags().StringVar(&f.ca, "ca", "ca", "folder of the mesh's certificate authority, with its key")
	cmd.Flags().StringVar(&f.listen, "listen", "0.0.0.0:7903", "TCP address")
	cmd.Flags().DurationVar(&f.term, "term", lease.Term, "how long leases last, at most seven days; shorter ones are renewed more often")
	cmd.Flags().StringVar(&f.format, "log-format", "text", "text or json")
	cmd.Flags().StringVar(&f.follow.Address, "follow", "", "a node's admin socket, listener or URL: what its policy revokes gets no lease")
	cmd.Flags().StringVar(&f.follow.TokenFile, "token-file", "", "with --follow: file with an admin token of role auditor")
	cmd.Flags().StringVar(&f.follow.CA, "admin-ca", "", "with --follow: the mesh's ca.crt, for HTTPS with a node's own certificate")
	return cmd
}

func (f authorityFlags) serve(ctx context.Context, cmd *cobra.Command) error {
	var h slog.Handler = slog.NewTextHandler(os.Stderr, nil)
	switch f.format {
	case "text":
	case "json":
		h = slog.NewJSONHandler(os.Stderr, nil)
	default:
		return usageError{fmt.Errorf("--log-format %q is not text or json", f.format)}
	}
	store, err := authority.OpenStore(f.dir)
	if err != nil {
		return err
	}
	signer, err := identity.LoadSigner(f.ca)
	if err != nil {
		return err
	}
	log := slog.New(h)
	cfg := authority.Config{
		Store: store, Signer: signer, Term: f.term, Logger: log,
		Load: func() (identity.Authority, error) { return identity.LoadAuthority(identity.CAFile(f.ca), f.dir) },
	}
	if f.follow.Address != "" {
		cfg.Revoked = f.revoked
	} else {
		log.Info("no node is followed (--follow): revocations of the policy do not end leases here, `tern authority deny` does")
	}
	a, err := authority.New(cfg)
	if err != nil {
		return err
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", f.listen)
	if err != nil {
		return fmt.Errorf("--listen %s: %w", f.listen, err)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "authority %s serves leases for %v at %s\n", a.Name(), f.term, ln.Addr())
	return a.Run(ctx, ln)
}

// revoked asks the followed node.
func (f authorityFlags) revoked(ctx context.Context) ([]authority.Revocation, error) {
	var answer node.RevokedAnswer
	if err := admin(ctx, f.follow, http.MethodGet, "/v1/revoked", nil, &answer); err != nil {
		return nil, err
	}
	out := make([]authority.Revocation, 0, len(answer.Revoked))
	for _, r := range answer.Revoked {
		out = append(out, authority.Revocation{Node: r.Node, Serial: r.Serial})
	}
	return out, nil
}
