package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"

	"github.com/ternmesh/tern/control"
	"github.com/ternmesh/tern/node/gate"
)

// socketOff is the value of admin.socket that opens none.
const socketOff = "off"

// adminRoutes registers the routes of the admin listeners, each behind the right that it needs.
type adminRoutes struct {
	mux    *http.ServeMux
	gate   *gate.Gate
	tracer trace.Tracer
}

// HandleFunc registers a route that reads (GET: operators and auditors) or acts (anything else: operators).
func (a *adminRoutes) HandleFunc(pattern string, h http.HandlerFunc) {
	right := gate.Operate
	if strings.HasPrefix(pattern, "GET ") {
		right = gate.Read
	}
	a.with(right, pattern, h)
}

// with registers a route that needs another right.
func (a *adminRoutes) with(right gate.Right, pattern string, h http.Handler) {
	if !strings.HasPrefix(pattern, "GET ") {
		h = a.traced(pattern, h)
	}
	a.mux.Handle(pattern, a.gate.Guard(right, h))
}

// adminCounts counts what the gate refused, by status.
type adminCounts struct {
	unknown, forbidden atomic.Uint64
	lines              *rate.Limiter // of log lines
}

// newGate says how this node knows the callers of its admin API.
func (n *Node) newGate() (*gate.Gate, error) {
	n.denials.lines = rate.NewLimiter(1, 10)
	c := gate.Config{
		Token: func(token string) (gate.Caller, bool) {
			a, ok := n.control.Policy().AdminOf(token, n.now())
			return gate.Caller{Name: a.Name, Role: a.Role, Apps: a.Apps}, ok
		},
		Certificate: func(cert *x509.Certificate) (gate.Caller, bool) {
			a, err := n.id.AdminOf(cert)
			return gate.Caller{Name: a.Name, Role: a.Role, Apps: a.Apps}, err == nil
		},
		Denied: n.denied,
		Refuse: writeError,
	}
	if n.cfg.Admin.Anonymous == AnonymousRead {
		c.Anonymous = gate.Caller{Name: "anybody", Role: gate.Auditor, By: "admin.anonymous"}
	}
	return gate.New(c)
}

// denied tells the log, the metrics and the mesh's audit log of a refusal.
func (n *Node) denied(r *http.Request, c gate.Caller, status int) {
	detail := "no proof of who asks"
	if status == http.StatusForbidden {
		n.denials.forbidden.Add(1)
		detail = "the role does not allow it"
	} else {
		n.denials.unknown.Add(1)
	}
	if n.denials.lines.Allow() {
		n.log.Warn("admin request refused", "status", status, "who", c.String(), "from", r.RemoteAddr, "method", r.Method, "path", r.URL.Path)
	}
	looked := r.Method == http.MethodGet || r.Method == http.MethodHead
	if !looked || status == http.StatusForbidden { // anybody without proof may look, and many do: that is counted and logged alone
		n.control.Record(control.AuditBody{
			Who: c.String(), From: fromOf(r, n.cfg.Node), Action: r.Method + " " + r.URL.Path, Result: control.AuditDenied, Detail: detail,
		})
	}
}

// fromOf is where a request came from, without the port: equal denials are one entry of the audit log.
func fromOf(r *http.Request, node string) string {
	if ap, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		return ap.Addr().String() + " at " + node
	}
	return r.RemoteAddr + " at " + node
}

// listenSocket opens admin.socket; nil where there is none: switched off, or in the simulator, whose nodes have no files to
// meet at.
func (n *Node) listenSocket(ctx context.Context) (net.Listener, error) {
	if _, real := n.opts.ClientNetwork.(osNetwork); !real || n.cfg.Admin.Socket == socketOff {
		return nil, nil
	}
	ln, err := gate.Listen(ctx, n.cfg.adminSocket())
	if err != nil {
		return nil, fmt.Errorf("admin.socket: %w", err)
	}
	return ln, nil
}

// adminSocket is the socket's path.
func (c *Config) adminSocket() string {
	if c.Admin.Socket != "" {
		return c.Admin.Socket
	}
	return filepath.Join(c.DataDir, "admin.sock")
}

// adminTLS is how admin.listen speaks TLS, nil if it does not: on loopback without admin.tls. Without files of its own it
// shows the node's certificate. Client certificates must be of the mesh's CA.
func (n *Node) adminTLS() *tls.Config {
	if !n.cfg.adminHasTLS() {
		return nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: n.id.Roots}
	if n.cfg.Admin.TLS.Cert != "" {
		c.GetCertificate = n.adminPair.get
	} else {
		c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return n.id.Cert(), nil }
	}
	return c
}

// adminHasTLS: with files for it, and always beyond loopback.
func (c *Config) adminHasTLS() bool {
	a, err := netip.ParseAddrPort(c.Admin.Listen)
	return c.Admin.TLS.Cert != "" || err == nil && !a.Addr().IsLoopback()
}

// validateAdmin checks the keys of the admin listener against each other.
func (c *Config) validateAdmin(fail func(key, format string, args ...any)) {
	if (c.Admin.TLS.Cert == "") != (c.Admin.TLS.Key == "") {
		fail("admin.tls", "cert and key go together")
	}
	switch a, err := netip.ParseAddrPort(c.Admin.Listen); {
	case c.Admin.Anonymous == "" || c.Admin.Anonymous == "none":
	case c.Admin.Anonymous != AnonymousRead:
		fail("admin.anonymous", "%q is not one of none, %s", c.Admin.Anonymous, AnonymousRead)
	case err == nil && !a.Addr().IsLoopback():
		fail("admin.anonymous", "%s lets whoever reaches %s read everything: use it on loopback alone, and tokens elsewhere", AnonymousRead, c.Admin.Listen)
	}
}

// AdminOrder asks for a new admin token; the body of POST /v1/admins. The token itself stays with whoever made it.
type AdminOrder struct {
	Name           string   `json:"name"`
	Role           string   `json:"role"`
	Apps           []string `json:"apps,omitempty"`
	Token          string   `json:"token"`                     // control.HashAdminToken of it
	ExpiresSeconds float64  `json:"expires_seconds,omitempty"` // from now; 0: never
}

// AdminAnswer is who has tokens after a change, without their hashes.
type AdminAnswer struct {
	Version uint64          `json:"version"`
	Admins  []control.Admin `json:"admins"`
}

func (n *Node) postAdmin(w http.ResponseWriter, r *http.Request) {
	var o AdminOrder
	if !readOrder(w, r, &o) {
		return
	}
	if o.ExpiresSeconds < 0 || o.ExpiresSeconds > (100*365*24*time.Hour).Seconds() {
		writeError(w, http.StatusBadRequest, fmt.Errorf("expires_seconds %v is not between 0 and a hundred years", o.ExpiresSeconds))
		return
	}
	a := control.Admin{Name: o.Name, Role: o.Role, Apps: o.Apps, Token: o.Token}
	if o.ExpiresSeconds > 0 {
		a.Expires = n.now().Add(time.Duration(o.ExpiresSeconds * float64(time.Second))).UTC().Truncate(time.Second)
	}
	n.editAdmins(w, r, "admin token create "+o.Name, func(list []control.Admin) []control.Admin { return append(list, a) })
}

func (n *Node) deleteAdmin(w http.ResponseWriter, r *http.Request) {
	name, found := r.PathValue("name"), false
	for _, a := range n.control.Policy().Admins {
		found = found || a.Name == name
	}
	if !found {
		writeError(w, http.StatusNotFound, errors.New("the policy has no token of that name: tern admin token list shows all"))
		return
	}
	n.editAdmins(w, r, "admin token revoke "+name, func(list []control.Admin) (kept []control.Admin) {
		for _, a := range list {
			if a.Name != name {
				kept = append(kept, a)
			}
		}
		return kept
	})
}

func (n *Node) editAdmins(w http.ResponseWriter, r *http.Request, action string, edit func([]control.Admin) []control.Admin) {
	p, err := n.editPolicy(r, action, func(p *control.Policy) {
		p.Admins = edit(append([]control.Admin(nil), p.Admins...))
	})
	if err != nil {
		writeError(w, statusOf(err), err)
		return
	}
	writeJSON(w, http.StatusOK, adminsOf(p))
}

func (n *Node) serveAdmins(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, adminsOf(n.control.Policy()))
}

func adminsOf(p control.Policy) AdminAnswer {
	out := AdminAnswer{Version: p.Version, Admins: []control.Admin{}}
	for _, a := range p.Admins {
		a.Token = ""
		out.Admins = append(out.Admins, a)
	}
	return out
}

// own is the part of a policy that concerns a caller: all of it, or for an app's owner the apps and the regions' names.
func own(p control.Policy, c gate.Caller) control.Policy {
	if c.May(gate.Read) {
		return p
	}
	out := control.Policy{Version: p.Version, Regions: p.Regions, Apps: []control.App{}}
	for _, a := range p.Apps {
		if c.Sees(a.ID) {
			out.Apps = append(out.Apps, a)
		}
	}
	return out
}
