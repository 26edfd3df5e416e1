package gate

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"strings"
)

// Config says how callers are known. All functions are called from many goroutines and must not block.
type Config struct {
	// Token says whose bearer token it is; false if nobody's.
	Token func(token string) (Caller, bool)
	// Certificate says who a client certificate names that the TLS stack has verified; false if it names no role.
	Certificate func(*x509.Certificate) (Caller, bool)
	// Anonymous is who a caller without any proof is. The zero value has no rights.
	Anonymous Caller
	// Denied hears of every refusal: 401 (no or bad proof) or 403 (not allowed). May be nil.
	Denied func(r *http.Request, c Caller, status int)
	// Refuse writes the answer of a refusal.
	Refuse func(w http.ResponseWriter, status int, err error)
}

// Gate stands before the routes.
type Gate struct{ cfg Config }

// New checks the configuration.
func New(cfg Config) (*Gate, error) {
	if cfg.Token == nil || cfg.Certificate == nil || cfg.Refuse == nil {
		return nil, errors.New("gate: token, certificate and refuse are needed")
	}
	return &Gate{cfg: cfg}, nil
}

type contextKey struct{ what string }

var (
	callerKey = contextKey{"caller"}
	socketKey = contextKey{"socket"}
)

// From returns who sent a request that passed Guard.
func From(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey).(Caller)
	return c
}

// ConnContext implements http.Server.ConnContext: it takes over what Listen asked the kernel about who is at the other end of
// a Unix socket. Every server that serves guarded routes on one needs it.
func ConnContext(ctx context.Context, conn net.Conn) context.Context {
	if peer, ok := conn.RemoteAddr().(socketPeer); ok {
		return context.WithValue(ctx, socketKey, peer)
	}
	return ctx
}

var (
	errProof = errors.New("who are you? Use the node's own socket (--admin DATA_DIR/admin.sock, as the node's user or root), " +
		"a token (--token-file; tern admin token create makes one) or a certificate (tern ca admin makes one)")
	errToken = errors.New("that token is not in the policy, or has expired: tern admin token list shows whose are")
	errRight = errors.New("is not allowed to do this: the role does not have the right. An operator has: use the node's own socket " +
		"(--admin DATA_DIR/admin.sock) or an operator's token (--token-file)")
)

// Guard lets only those through to next who have a right.
func (g *Gate) Guard(right Right, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if right == Everybody {
			next.ServeHTTP(w, r)
			return
		}
		c, err := g.caller(r)
		switch {
		case c.May(right):
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey, c)))
		case c.Role == "":
			w.Header().Set("WWW-Authenticate", "Bearer")
			g.deny(w, r, c, http.StatusUnauthorized, err)
		default:
			g.deny(w, r, c, http.StatusForbidden, errors.Join(errors.New(c.String()), errRight))
		}
	})
}

func (g *Gate) deny(w http.ResponseWriter, r *http.Request, c Caller, status int, err error) {
	if g.cfg.Denied != nil {
		g.cfg.Denied(r, c, status)
	}
	g.cfg.Refuse(w, status, errors.New(strings.ReplaceAll(err.Error(), "\n", " ")))
}

// caller finds out who sends a request; the error says what was missing if it is nobody known. A token that is wrong is
// refused even where another proof would do: whoever sends one means to be its holder.
func (g *Gate) caller(r *http.Request) (Caller, error) {
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		if c, known := g.cfg.Token(strings.TrimSpace(token)); known {
			c.By = "token"
			return c, nil
		}
		return Caller{}, errToken
	}
	if peer, ok := r.Context().Value(socketKey).(socketPeer); ok {
		if peer.trusted() {
			return Caller{Name: peer.String(), Role: Operator, By: "socket"}, nil
		}
		return Caller{}, errProof
	}
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		if c, known := g.cfg.Certificate(r.TLS.VerifiedChains[0][0]); known {
			c.By = "certificate"
			return c, nil
		}
	}
	return g.cfg.Anonymous, errProof
}
