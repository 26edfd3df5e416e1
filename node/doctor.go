package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/ternmesh/tern/control/lease"
	"github.com/ternmesh/tern/mesh/identity"
	"github.com/ternmesh/tern/node/direct"
	"github.com/ternmesh/tern/node/gate"
)

// Check is one thing that Examine looked at. Status is ok, warning or critical; Do says how to mend it, empty if ok.
type Check struct {
	Name   string `json:"name"`
	Status string `json:"status"`
	What   string `json:"what"`
	Do     string `json:"do,omitempty"`
}

// statusOK is a Check without fault.
const statusOK = "ok"

// Thresholds of checks.
const (
	diskLow       = 1 << 30 // free bytes under data_dir; the policy and its log need far less, the host does not
	filesWanted   = 8192    // open files: a socket per HTTP client and room beside them
	dialPatience  = 5 * time.Second
	localPatience = 2 * time.Second
)

// doctor gathers checks; it is used by one goroutine.
type doctor struct {
	cfg     Config
	id      *identity.Identity // nil if it could not be loaded
	running bool               // this configuration's node runs on this host now
	checks  []Check
}

// Examine looks at everything that a node with this configuration needs of its host and of its peers, and changes nothing.
// While the node runs, its ports are its own and its own view of the links counts; otherwise Examine dials the addresses of
// mesh.join as the node would. It ends within a few seconds.
func Examine(ctx context.Context, cfg Config) []Check {
	d := &doctor{cfg: cfg}
	status, err := d.ask(ctx)
	d.running = err == nil && status.Node == cfg.Node
	d.examineIdentity(ctx, time.Now())
	d.examineAccessTLS(time.Now())
	d.examineData()
	d.examinePorts(ctx)
	d.examineHost()
	if d.running {
		d.believe(status)
	} else {
		d.examinePeers(ctx)
	}
	return d.checks
}

func (d *doctor) ok(name, format string, args ...any) {
	d.checks = append(d.checks, Check{Name: name, Status: statusOK, What: fmt.Sprintf(format, args...)})
}

func (d *doctor) bad(severity, name, what, do string) {
	d.checks = append(d.checks, Check{Name: name, Status: severity, What: what, Do: do})
}

// ask the node that may run here for its status.
func (d *doctor) ask(ctx context.Context) (s Status, err error) {
	ctx, cancel := context.WithTimeout(ctx, localPatience)
	defer cancel()
	client, base, err := gate.Target{Address: d.cfg.adminSocket()}.Client()
	if err != nil {
		return s, err
	}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/v1/status", nil)
	if err != nil {
		return s, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	err = json.NewDecoder(io.LimitReader(resp.Body, 32<<20)).Decode(&s)
	return s, err
}

func (d *doctor) examineIdentity(ctx context.Context, now time.Time) {
	if len(d.cfg.Authorities) > 0 {
		d.examineLease(ctx, now)
		return
	}
	id, err := identity.Load(d.cfg.Identity.CA, d.cfg.Identity.Cert, d.cfg.Identity.Key)
	if err != nil {
		d.bad(SeverityCritical, "identity", err.Error(), "issue the node's certificate with `tern ca issue` and name its files under identity")
		return
	}
	d.id = id
	switch {
	case id.Node != d.cfg.Node:
		d.bad(SeverityCritical, "identity", fmt.Sprintf("the certificate is for node %q, the configuration says %q", id.Node, d.cfg.Node), "name the right files, or set node: "+id.Node)
		return
	case !d.mayVote(id):
		return
	}
	d.expiry("identity", "the node's certificate", id.Cert().Leaf, now)
	d.private("identity.key", d.cfg.Identity.Key)
}

// mayVote holds the certificate against control.voter.
func (d *doctor) mayVote(id *identity.Identity) bool {
	if d.cfg.Control.Voter && !id.Voter {
		d.bad(SeverityCritical, "identity", "control.voter is set, but the certificate does not allow voting", "issue one with `tern ca issue --voter`, or invite the machine with `tern authority invite --voter`")
		return false
	}
	return true
}

// examineLease judges the lease as the node would at its start, and asks whether an authority can be reached. A running node
// tells more by its findings.
func (d *doctor) examineLease(ctx context.Context, now time.Time) {
	p, err := d.cfg.LeaseParts("")
	if err != nil {
		d.bad(SeverityCritical, "identity.lease", err.Error(), "docs/enrolment.md says how a machine is enrolled")
		return
	}
	d.examineAuthorities(ctx, p)
	v, l, why := p.File.Peek(now)
	switch {
	case !v.Good():
		d.bad(SeverityCritical, "identity.lease", refusedBy(v, p.File.Path, why).Error(), v.Do())
		return
	case v == lease.ValidWarn:
		d.bad(SeverityWarning, "identity.lease", fmt.Sprintf("the lease ends on %s", time.Unix(l.Grant.Expires, 0).UTC().Format(time.DateTime)), v.Do())
	default:
		d.ok("identity.lease", "%s until %s, from authority %s, fingerprint %s", v, time.Unix(l.Grant.Expires, 0).UTC().Format(time.DateTime), l.Grant.Issuer, p.Fingerprint)
	}
	id, err := identity.LoadLeased(d.cfg.Identity.CA, d.cfg.Identity.Key, l.Grant.Certificate)
	if err != nil {
		d.bad(SeverityCritical, "identity", err.Error(), v.Do())
		return
	}
	d.id = id
	d.mayVote(id)
	d.private("identity.key", d.cfg.Identity.Key)
}

// examineAuthorities connects to each: one is enough, but the next one's turn should not bring a surprise.
func (d *doctor) examineAuthorities(ctx context.Context, p LeaseParts) {
	for _, a := range d.cfg.Authorities {
		if err := p.Client.Reach(ctx, a, p.Trust); err != nil {
			d.bad(SeverityWarning, "authorities", a+": "+err.Error(), "start it, or open the way to it (TCP); is it an authority of this mesh?")
		} else {
			d.ok("authorities", "%s answers", a)
		}
	}
}

// expiry judges the end of a certificate as findings do.
func (d *doctor) expiry(name, what string, cert *x509.Certificate, now time.Time) {
	left := cert.NotAfter.Sub(now)
	until := cert.NotAfter.UTC().Format(time.DateTime)
	switch {
	case now.Before(cert.NotBefore):
		d.bad(SeverityCritical, name, fmt.Sprintf("%s begins on %s, this clock says %s", what, cert.NotBefore.UTC().Format(time.DateTime), now.UTC().Format(time.DateTime)), "set the clock (NTP)")
	case left <= 0:
		d.bad(SeverityCritical, name, fmt.Sprintf("%s ended on %s; this clock says %s", what, until, now.UTC().Format(time.DateTime)), "issue a new one, or set the clock (NTP)")
	case left <= certificateSoon:
		d.bad(SeverityWarning, name, fmt.Sprintf("%s ends on %s", what, until), "issue a new one and replace the files")
	default:
		d.ok(name, "%s is good until %s", what, until)
	}
}

// private warns of a key that others on this host can read.
func (d *doctor) private(name, file string) {
	if file == "" {
		return
	}
	info, err := os.Stat(file)
	switch {
	case err != nil:
		d.bad(SeverityCritical, name, err.Error(), "make it readable for the user that runs the node")
	case info.Mode().Perm()&0o007 != 0:
		d.bad(SeverityWarning, name, fmt.Sprintf("%s has mode %04o: others on this host can read it", file, info.Mode().Perm()), "chmod 600 "+file)
	default:
		d.ok(name, "%s is private", file)
	}
}

func (d *doctor) examineAccessTLS(now time.Time) {
	files := d.cfg.Access.TLS
	if files.Cert == "" {
		return
	}
	pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		d.bad(SeverityCritical, "access.tls", err.Error(), "name a certificate chain and its key, both PEM")
		return
	}
	d.expiry("access.tls", "the HTTPS certificate", pair.Leaf, now)
	d.private("access.tls.key", files.Key)
	u, err := url.Parse(d.cfg.Access.URL)
	if err == nil && u.Hostname() != "" {
		if err := pair.Leaf.VerifyHostname(u.Hostname()); err != nil {
			d.bad(SeverityCritical, "access.url", "the HTTPS certificate does not fit it: "+err.Error(), "set access.url to a name of the certificate")
		}
	}
}

func (d *doctor) examineData() {
	dir := d.cfg.DataDir
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		dir = filepath.Dir(dir) // the node makes the last step itself
	}
	probe, err := os.CreateTemp(dir, ".doctor-*")
	if err != nil {
		d.bad(SeverityCritical, "data_dir", "cannot be written: "+err.Error(), "chown it to the user that runs the node; free space if the disk is full")
		return
	}
	_ = probe.Close()
	_ = os.Remove(probe.Name())
	free, err := freeBytes(dir)
	switch {
	case err != nil:
		d.ok("data_dir", "%s can be written", d.cfg.DataDir)
	case free < diskLow:
		d.bad(SeverityWarning, "data_dir", fmt.Sprintf("%d MiB free under %s", free>>20, d.cfg.DataDir), "free space: without any, the policy cannot change (media goes on)")
	default:
		d.ok("data_dir", "%s can be written, %d GiB free", d.cfg.DataDir, free>>30)
	}
}

// examinePorts tries to bind each, unless the node holds them.
func (d *doctor) examinePorts(ctx context.Context) {
	for _, p := range Ports(d.cfg) {
		if d.running {
			d.ok(p.Key, "%s %s: held by this node", p.Protocol, p.Listen)
			continue
		}
		if strings.Contains(p.Listen, "-") { // a range; its first port stands for it
			p.Listen = p.Listen[:strings.LastIndexByte(p.Listen, '-')]
		}
		switch err := tryPort(ctx, p); {
		case err == nil:
			d.ok(p.Key, "%s %s: free", p.Protocol, p.Listen)
		case errors.Is(err, syscall.EADDRINUSE):
			d.bad(SeverityCritical, p.Key, fmt.Sprintf("%s %s is taken by another process", p.Protocol, p.Listen),
				"`ss -lnp` says which; end it or choose another port in "+p.Key)
		case errors.Is(err, syscall.EADDRNOTAVAIL):
			d.bad(SeverityCritical, p.Key, p.Listen+" is not an address of this host", "name one that `ip addr` shows (0.0.0.0 for all) in "+p.Key)
		case errors.Is(err, syscall.EACCES):
			d.bad(SeverityCritical, p.Key, "no permission for "+p.Listen, "use a port above 1023, or give the process CAP_NET_BIND_SERVICE")
		default:
			d.bad(SeverityCritical, p.Key, err.Error(), "choose another address in "+p.Key)
		}
	}
}

func tryPort(ctx context.Context, p Port) error {
	var c io.Closer
	var err error
	if p.Protocol == "udp" {
		c, err = (&net.ListenConfig{}).ListenPacket(ctx, "udp", p.Listen)
	} else {
		c, err = (&net.ListenConfig{}).Listen(ctx, "tcp", p.Listen)
	}
	if err != nil {
		return err
	}
	return c.Close()
}

// believe takes the running node's own findings.
func (d *doctor) believe(s Status) {
	for _, f := range s.Findings {
		d.bad(f.Severity, f.Name, f.Where+": "+f.What, f.Do)
	}
	if len(s.Findings) == 0 {
		d.ok("running node", "%s says that all is fine: %d nodes", s.Node, len(s.Members))
	}
}

// examinePeers resolves and dials what mesh.join names, as the node would, from a port of its own.
func (d *doctor) examinePeers(ctx context.Context) {
	if len(d.cfg.Mesh.Join) == 0 {
		d.ok("mesh.join", "empty: this node waits to be joined")
		return
	}
	if d.id == nil {
		return // said already
	}
	socket, err := (osNetwork{}).ListenPacket(ctx, netip.AddrPortFrom(netip.MustParseAddrPort(d.cfg.Mesh.Listen).Addr(), 0))
	if err != nil {
		d.bad(SeverityCritical, "mesh.join", err.Error(), "check mesh.listen")
		return
	}
	p := newPort(socket)
	go func() { _ = p.run() }() // until the socket closes
	defer socket.Close()
	layer, err := direct.New(direct.Config{
		Identity: d.id, Conn: p.quic, Logger: slog.New(slog.DiscardHandler),
		Resolve: func(string) (netip.AddrPort, bool) { return netip.AddrPort{}, false },
	})
	if err != nil {
		d.bad(SeverityCritical, "mesh.join", err.Error(), "mend the identity first")
		return
	}
	run, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { _ = layer.Run(run); close(done) }()
	reached := 0
	for _, j := range d.cfg.Mesh.Join {
		reached += d.dial(ctx, layer, j)
	}
	stop()
	<-done
	if reached == 0 {
		d.bad(SeverityCritical, "mesh.join", "no other node was reached", "start one, or mend what the lines above say")
	}
}

// dial one address of mesh.join; it returns how many nodes that reached.
func (d *doctor) dial(ctx context.Context, layer *direct.Layer, join string) (reached int) {
	ctx, cancel := context.WithTimeout(ctx, dialPatience)
	defer cancel()
	host, port, _ := net.SplitHostPort(join)
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	number, errPort := net.DefaultResolver.LookupPort(ctx, "udp", port)
	if err = errors.Join(err, errPort); err != nil {
		d.bad(SeverityWarning, "mesh.join", err.Error(), "mend the name or the resolver (DNS), or write an IP address")
		return 0
	}
	for _, a := range addrs {
		to := netip.AddrPortFrom(a.Unmap(), uint16(number))
		if to.String() == d.cfg.Mesh.Advertise {
			continue // this node itself
		}
		began := time.Now()
		conn, peer, err := layer.DialAddr(ctx, to, kindKey)
		if err != nil {
			d.bad(SeverityWarning, "mesh.join", fmt.Sprintf("%s: %v", to, err), "is that node up, do both firewalls let UDP to it through, are both certificates of one CA?")
			continue
		}
		_ = conn.Close()
		d.ok("mesh.join", "%s is %s in %s; certificate exchange took %v", to, peer.Node, peer.Region, time.Since(began).Round(time.Millisecond))
		reached++
	}
	return reached
}

// Port is one address that a node listens on, and who must reach it.
type Port struct {
	Key      string `json:"key"`
	Protocol string `json:"protocol"` // udp or tcp
	Listen   string `json:"listen"`   // IP:PORT, or IP:FIRST-LAST
	Who      string `json:"who"`
}

// Ports lists what a node with this configuration listens on: what a firewall must let through, and from whom.
func Ports(c Config) []Port {
	return []Port{
		{"mesh.listen", "udp", c.Mesh.Listen, "every node of the mesh"},
		{"access.listen", "tcp", c.Access.Listen, "clients: WHIP, WHEP"},
		{"access.udp", "udp", c.Access.UDP, "clients: WebRTC media"},
		{"access.rtp_ports", "udp", net.JoinHostPort(c.Access.RTPHost, c.Access.RTPPorts), "publishers of plain RTP"},
		{"admin.listen", "tcp", c.Admin.Listen, "the operator alone: never open this to clients"},
	}
}
