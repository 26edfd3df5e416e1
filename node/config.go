package node

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ternmesh/tern/control/document"
	"github.com/ternmesh/tern/mesh"
	"github.com/ternmesh/tern/node/access"
	"github.com/ternmesh/tern/node/tracing"
)

// Config is one node's configuration file (YAML). Every zero value is documented;
// keys.go says which keys reload. Environment variables override keys: TERN_ and the path in capitals, dots as
// underscores (TERN_MESH_LISTEN). Relative paths are relative to the file.
type Config struct {
	// Node is this node's name, as in its certificate. Needed.
	Node string `yaml:"node"`
	// DataDir keeps the policy, the raft log and the node's secret. Needed.
	DataDir string `yaml:"data_dir"`
	// Identity names the certificate files. Needed.
	Identity IdentityConfig `yaml:"identity"`
	// Authorities lists HOST:PORT of lease authorities, asked in this order. With any, the node lives by a lease and has no
	// identity.cert. Default: none; certificates of tern ca suffice.
	Authorities []string `yaml:"authorities"`
	// Mesh is the side towards other nodes.
	Mesh MeshConfig `yaml:"mesh"`
	// Control is raft and the policy.
	Control ControlConfig `yaml:"control"`
	// Access is the side towards clients.
	Access AccessConfig `yaml:"access"`
	// Admin is the private listener: API, metrics, health, pprof.
	Admin AdminConfig `yaml:"admin"`
	// Filter is the packet filter.
	Filter FilterConfig `yaml:"filter"`
	// Carrier is how media crosses the mesh: frames (default) or datagram.
	Carrier string `yaml:"carrier"`
	// Log is level and format.
	Log LogConfig `yaml:"log"`
	// Tracing sends traces of joins, policy changes and path changes to a collector. Default: off.
	Tracing TracingConfig `yaml:"tracing"`
}

// IdentityConfig names PEM files: the mesh's CA, this node's certificate and its key. With authorities the certificate comes
// with the lease.
type IdentityConfig struct {
	CA   string `yaml:"ca"`
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
	// Lease is the lease file. Default: lease.json in DataDir.
	Lease string `yaml:"lease"`
	// MachineFile takes the place of what tells this machine from others: its content does. Default: the machine itself.
	MachineFile string `yaml:"machine_file"`
	// ClockTolerance is how many seconds the clock may go back without making a lease void. Default 30, at most 120.
	ClockTolerance int `yaml:"clock_tolerance_seconds"`
}

// MeshConfig is the mesh port.
type MeshConfig struct {
	// Listen is the UDP address of gossip, path frames and QUIC. Default 0.0.0.0:7900.
	Listen string `yaml:"listen"`
	// Advertise is the address that other nodes use. Default: Listen, which must then be a real address.
	Advertise string `yaml:"advertise"`
	// Join lists host:port of any other nodes; DNS names are resolved at each try. Empty: wait to be joined.
	Join []string `yaml:"join"`
	// Risks names what this node shares with others (site, provider): paths avoid sharing it.
	Risks []string `yaml:"risks"`
	// ProbeKbps caps this node's probes of links, in kbit/s on the wire, at any size of mesh. Default 256, at least 32.
	ProbeKbps int `yaml:"probe_kbps"`
	// RelayMbps is the rate of traffic relayed for others, in Mbit/s, at which this node counts as full. Default 0: no rate does.
	RelayMbps int `yaml:"relay_mbps"`
}

// ControlConfig is raft.
type ControlConfig struct {
	// Voter makes this node vote; its certificate must allow it. Default false.
	Voter bool `yaml:"voter"`
	// Expect is how many voters found the mesh, the first time: 1, 3 or 5, the same at all of them. Needed for a voter that
	// joins others; otherwise 1 is the default.
	Expect int `yaml:"expect"`
	// KeyFile holds this node's own key (made if absent): certificates in the policy are sealed to it. Default: node.key in
	// DataDir. On another disk, a copy of DataDir alone opens nothing.
	KeyFile string `yaml:"key_file"`
}

// AccessConfig is the edge towards clients.
type AccessConfig struct {
	// Listen is the HTTP address of WHIP and WHEP. Default 127.0.0.1:8080.
	Listen string `yaml:"listen"`
	// TLS is the certificate of HTTPS. Without it, Listen must be loopback.
	TLS TLSConfig `yaml:"tls"`
	// PlainHTTP insists on HTTP without TLS beyond loopback (behind a proxy that ends TLS). Default false.
	PlainHTTP bool `yaml:"plain_http"`
	// URL is the base URL that clients see. Default: scheme and Listen.
	URL string `yaml:"url"`
	// UDP is the one port of all WebRTC clients. Default 127.0.0.1:8081.
	UDP string `yaml:"udp"`
	// UDPAdvertise lists the addresses in ICE candidates. Default: UDP, which must then be a real address.
	UDPAdvertise []string `yaml:"udp_advertise"`
	// TCP is the address of ICE over TCP, for clients whose network lets no UDP through. Default: none.
	TCP string `yaml:"tcp"`
	// ICELite makes the node answer connectivity checks and make none. Default false.
	ICELite bool `yaml:"ice_lite"`
	// RTPHost is the address of plain RTP ingest. Default 127.0.0.1.
	RTPHost string `yaml:"rtp_host"`
	// RTPPorts is the range of plain RTP ingest. Default 20000-20199.
	RTPPorts string `yaml:"rtp_ports"`
	// MaxSessions bounds the clients' sessions of this node. Default 2000.
	MaxSessions int `yaml:"max_sessions"`
	// JoinRate and JoinBurst bound joins per second, and at once, of one source address. Default 50 and 200.
	JoinRate int `yaml:"join_rate"`
	// PatchRate bounds PATCHes (candidates, restarts, renewals) per second of one source address. Default 200; four seconds' worth
	// at once.
	PatchRate int `yaml:"patch_rate"`
	JoinBurst int `yaml:"join_burst"`
	// ConnectionsPerSource bounds the connections open at once from one source address at Listen, and at TCP. Loopback and
	// TrustedProxies have no bound of their own. Default 512.
	ConnectionsPerSource int `yaml:"connections_per_source"`
	// RTPPerApp and RTPPerSource bound plain RTP sessions of one app and of one source address. Default 32 and 8.
	RTPPerApp    int `yaml:"rtp_per_app"`
	RTPPerSource int `yaml:"rtp_per_source"`
	// TrustedProxies lists addresses or prefixes of reverse proxies whose X-Forwarded-For counts. Default: none.
	TrustedProxies []string `yaml:"trusted_proxies"`
	// AppKeysHeader and TenantsHeader are set by network owners. Default: those of the Amazon Chime SDK.
	AppKeysHeader string `yaml:"app_keys_header"`
	TenantsHeader string `yaml:"tenants_header"`
}

// TLSConfig names PEM files.
type TLSConfig struct {
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// AnonymousRead lets whoever reaches admin.listen, on loopback, read what auditors may.
const AnonymousRead = "read"

// AdminConfig is the private listeners. Whoever calls must prove who it is; see package gate.
type AdminConfig struct {
	// Listen is the address of HTTP, or HTTPS beyond loopback or with TLS. Default 127.0.0.1:7902.
	Listen string `yaml:"listen"`
	// Socket is the Unix socket at which the node's own user and root are operators. Default DATA_DIR/admin.sock; "off": none.
	Socket string `yaml:"socket"`
	// TLS is the certificate of HTTPS at Listen. Default: the node's own, beyond loopback.
	TLS TLSConfig `yaml:"tls"`
	// Anonymous is what a caller at Listen without any proof may do: none (default), or read (on loopback alone).
	Anonymous string `yaml:"anonymous"`
}

// FilterConfig is the packet filter.
type FilterConfig struct {
	// Mode is auto (default: XDP where it can attach, else the Go twin), xdp or go.
	Mode string `yaml:"mode"`
	// Interfaces to attach XDP to; "auto" is the ones with a default route. Default: none, so that the Go twin filters.
	Interfaces []string `yaml:"interfaces"`
	// ShareQuarantine tells the other nodes of sources in quarantine, and believes them. Default: no.
	ShareQuarantine bool `yaml:"share_quarantine"`
	// Relay is who sends path frames on for other nodes: user (default), or kernel: the XDP program, where it can.
	Relay string `yaml:"relay"`
}

// LogConfig says how much is logged, and how.
type LogConfig struct {
	// Level is debug, info (default), warn or error.
	Level string `yaml:"level"`
	// Format is text (default) or json.
	Format string `yaml:"format"`
}

// TracingConfig says where traces go.
type TracingConfig struct {
	// Endpoint is the base URL of an OTLP/HTTP collector, such as http://127.0.0.1:4318. Default: none, no traces.
	Endpoint string `yaml:"endpoint"`
	// Sample is the share of traces beginning here that are recorded, above 0 and up to 1. Default 1.
	Sample float64 `yaml:"sample"`
}

// maxProbeKbps is far more than the most neighbours take.
const maxProbeKbps = 100_000

// maxRelayMbps is more than a network card has.
const maxRelayMbps = 1_000_000

// ShutdownTimeout bounds a graceful end: goodbye to clients and peers.
const ShutdownTimeout = 10 * time.Second

// maxConfig bounds a configuration file, in bytes: many times what all keys and their comments take.
const maxConfig = 1 << 20

// LoadConfig reads a configuration file, which must be a regular one, applies TERN_* overrides from environ ("KEY=value") and
// defaults, and checks it. It reports every problem at once, each with what to do.
func LoadConfig(path string, environ []string) (Config, error) {
	data, err := readConfig(path)
	if err != nil {
		return Config{}, fmt.Errorf("config: %w", err)
	}
	var c Config
	if err := document.Decode(data, &c); err != nil {
		return Config{}, fmt.Errorf("config %s: %w", path, err)
	}
	if err := override(&c, environ); err != nil {
		return Config{}, fmt.Errorf("config: %w", err)
	}
	c.resolve(filepath.Dir(path))
	c.defaults()
	if err := c.Validate(); err != nil {
		return Config{}, fmt.Errorf("config %s: %w", path, err)
	}
	return c, nil
}

// readConfig reads a regular file of at most maxConfig bytes. Anything else could keep a reader waiting for ever, as a pipe does
// that nobody writes to, or never end.
func readConfig(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // opening a pipe does not wait for a writer
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, fmt.Errorf("%s is no regular file: write the configuration to one, so that a reload can read it again", path))
	}
	data, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err == nil && len(data) > maxConfig {
		err = fmt.Errorf("%s is no configuration: it is longer than the %d bytes that are allowed", path, maxConfig)
	}
	return data, err
}

// resolve makes file names relative to the configuration file.
func (c *Config) resolve(dir string) {
	for _, p := range []*string{&c.DataDir, &c.Identity.CA, &c.Identity.Cert, &c.Identity.Key, &c.Identity.Lease, &c.Identity.MachineFile, &c.Control.KeyFile, &c.Access.TLS.Cert, &c.Access.TLS.Key, &c.Admin.TLS.Cert, &c.Admin.TLS.Key, &c.Admin.Socket} {
		if *p != "" && *p != socketOff && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
}

func (c *Config) defaults() {
	set := func(p *string, v string) {
		if *p == "" {
			*p = v
		}
	}
	set(&c.Mesh.Listen, "0.0.0.0:7900")
	set(&c.Mesh.Advertise, c.Mesh.Listen)
	set(&c.Access.Listen, "127.0.0.1:8080")
	set(&c.Access.UDP, "127.0.0.1:8081")
	set(&c.Access.RTPHost, "127.0.0.1")
	set(&c.Access.RTPPorts, "20000-20199")
	set(&c.Access.AppKeysHeader, access.DefaultAppKeysHeader)
	set(&c.Access.TenantsHeader, access.DefaultTenantsHeader)
	c.Access.limits(func(_ string, v *int, fallback int) {
		if *v == 0 {
			*v = fallback
		}
	})
	set(&c.Admin.Listen, "127.0.0.1:7902")
	set(&c.Filter.Mode, "auto")
	set(&c.Filter.Relay, "user")
	set(&c.Carrier, "frames")
	if c.Identity.ClockTolerance == 0 {
		c.Identity.ClockTolerance = defaultTolerance
	}
	set(&c.Log.Level, "info")
	set(&c.Log.Format, "text")
	if c.Tracing.Sample == 0 {
		c.Tracing.Sample = 1
	}
	if c.Control.Expect == 0 && (!c.Control.Voter || len(c.Mesh.Join) == 0) {
		c.Control.Expect = 1
	}
	if len(c.Access.UDPAdvertise) == 0 {
		c.Access.UDPAdvertise = []string{c.Access.UDP}
	}
}

var nodeName = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)

// Validate checks everything that can be checked without opening a socket or a file.
func (c *Config) Validate() error {
	var errs []error
	fail := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, args...)))
	}
	if !nodeName.MatchString(c.Node) {
		fail("node", "%q must be 1 to 63 of a-z, 0-9 and -", c.Node)
	}
	for _, needed := range [][2]string{
		{"data_dir", c.DataDir}, {"identity.ca", c.Identity.CA}, {"identity.key", c.Identity.Key},
	} {
		if needed[1] == "" {
			fail(needed[0], "is needed")
		}
	}
	c.validateAddresses(fail)
	c.validateAdmin(fail)
	c.validateLease(fail)
	oneOf := func(key, v string, allowed ...string) {
		for _, a := range allowed {
			if v == a {
				return
			}
		}
		fail(key, "%q is not one of %s", v, strings.Join(allowed, ", "))
	}
	if least := mesh.MinProbeRate / 1000; c.Mesh.ProbeKbps != 0 && (c.Mesh.ProbeKbps < least || c.Mesh.ProbeKbps > maxProbeKbps) {
		fail("mesh.probe_kbps", "%d is out of range, %d to %d: with less, links cannot be measured", c.Mesh.ProbeKbps, least, maxProbeKbps)
	}
	if c.Mesh.RelayMbps < 0 || c.Mesh.RelayMbps > maxRelayMbps {
		fail("mesh.relay_mbps", "%d is out of range, 0 to %d", c.Mesh.RelayMbps, maxRelayMbps)
	}
	oneOf("filter.mode", c.Filter.Mode, "auto", "xdp", "go")
	oneOf("filter.relay", c.Filter.Relay, "user", RelayKernel)
	oneOf("carrier", c.Carrier, "frames", "datagram")
	oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	oneOf("log.format", c.Log.Format, "text", "json")
	if c.Tracing.Endpoint != "" {
		if err := tracing.CheckEndpoint(c.Tracing.Endpoint); err != nil {
			fail("tracing.endpoint", "%v", err)
		}
	}
	if c.Tracing.Sample < 0 || c.Tracing.Sample > 1 {
		fail("tracing.sample", "%v is not a share above 0 and up to 1; leave tracing.endpoint out for no traces", c.Tracing.Sample)
	}
	switch c.Control.Expect {
	case 1, 3, 5:
	case 0:
		fail("control.expect", "is needed for a voter that joins others: how many voters found the mesh (1, 3 or 5), the same at all of them")
	default:
		fail("control.expect", "%d is not 1, 3 or 5 voters", c.Control.Expect)
	}
	if (c.Access.TLS.Cert == "") != (c.Access.TLS.Key == "") {
		fail("access.tls", "cert and key go together")
	}
	if _, _, err := c.Access.rtpRange(); err != nil {
		fail("access.rtp_ports", "%v", err)
	}
	return errors.Join(errs...)
}

func (c *Config) validateAddresses(fail func(key, format string, args ...any)) {
	addr := func(key, v string, real bool) {
		a, err := netip.ParseAddrPort(v)
		switch {
		case err != nil:
			fail(key, "%q is not IP:PORT (for example 192.0.2.1:7900 or [2001:db8::1]:7900)", v)
		case real && a.Addr().IsUnspecified():
			fail(key, "%q says every address: name the one that others reach", v)
		}
	}
	addr("mesh.listen", c.Mesh.Listen, false)
	addr("mesh.advertise", c.Mesh.Advertise, true)
	addr("access.listen", c.Access.Listen, false)
	addr("access.udp", c.Access.UDP, false)
	if c.Access.TCP != "" {
		addr("access.tcp", c.Access.TCP, false)
	}
	for _, a := range c.Access.UDPAdvertise {
		addr("access.udp_advertise", a, true)
	}
	addr("admin.listen", c.Admin.Listen, false)
	c.Access.validateClients(fail)
	if ip, err := netip.ParseAddr(c.Access.RTPHost); err != nil || ip.IsUnspecified() {
		fail("access.rtp_host", "%q is not the address that senders reach", c.Access.RTPHost)
	}
	for _, j := range c.Mesh.Join {
		if host, port, err := net.SplitHostPort(j); err != nil || host == "" || port == "" {
			fail("mesh.join", "%q is not HOST:PORT", j)
		}
	}
	if a, err := netip.ParseAddrPort(c.Access.Listen); err == nil && c.Access.TLS.Cert == "" && !c.Access.PlainHTTP && !a.Addr().IsLoopback() {
		fail("access.listen", "%s without TLS would take tokens in the clear: set access.tls, or access.plain_http behind a proxy that ends TLS", c.Access.Listen)
	}
}

// rtpRange parses "first-last".
func (a AccessConfig) rtpRange() (first, last uint16, err error) {
	lo, hi, ok := strings.Cut(a.RTPPorts, "-")
	f, err1 := strconv.ParseUint(lo, 10, 16)
	l, err2 := strconv.ParseUint(hi, 10, 16)
	if !ok || err1 != nil || err2 != nil || f == 0 || f > l {
		return 0, 0, fmt.Errorf("%q is not FIRST-LAST (for example 20000-20199)", a.RTPPorts)
	}
	if f += f % 2; f+1 > l {
		return 0, 0, fmt.Errorf("%q holds no pair of an even port and the next (RTP and RTCP)", a.RTPPorts)
	}
	return uint16(f), uint16(l), nil
}

// limits calls f for every limit with its default.
func (a *AccessConfig) limits(f func(key string, v *int, fallback int)) {
	f("max_sessions", &a.MaxSessions, access.DefaultMaxSessions)
	f("join_rate", &a.JoinRate, access.DefaultJoinRate)
	f("patch_rate", &a.PatchRate, access.DefaultPatchRate)
	f("join_burst", &a.JoinBurst, access.DefaultJoinBurst)
	f("connections_per_source", &a.ConnectionsPerSource, DefaultConnectionsPerSource)
	f("rtp_per_app", &a.RTPPerApp, access.DefaultMaxRTPPerApp)
	f("rtp_per_source", &a.RTPPerSource, access.DefaultMaxRTPPerSource)
}

// validateClients checks what concerns clients and the proxies before them.
func (a *AccessConfig) validateClients(fail func(key, format string, args ...any)) {
	a.limits(func(key string, v *int, _ int) {
		if *v < 0 {
			fail("access."+key, "%d is negative: leave it out for the default", *v)
		}
	})
	for _, p := range a.TrustedProxies {
		if _, err := parsePrefix(p); err != nil {
			fail("access.trusted_proxies", "%q is neither an address nor a prefix such as 10.0.0.0/8", p)
		}
	}
	for key, name := range map[string]string{"app_keys_header": a.AppKeysHeader, "tenants_header": a.TenantsHeader} {
		if !headerName.MatchString(name) {
			fail("access."+key, "%q is not the name of an HTTP header", name)
		}
	}
}

var headerName = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)

// parsePrefix takes a bare address for itself alone.
func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Unmap().WithZone("").Prefix(a.Unmap().BitLen())
	}
	p, err := netip.ParsePrefix(s)
	return p.Masked(), err
}

// proxies are the trusted ones; Validate has checked them.
func (a *AccessConfig) proxies() (out []netip.Prefix) {
	for _, s := range a.TrustedProxies {
		if p, err := parsePrefix(s); err == nil {
			out = append(out, p)
		}
	}
	return out
}

// accessURL is the base URL that clients see.
func (c *Config) accessURL(listening net.Addr) string {
	if c.Access.URL != "" {
		return strings.TrimRight(c.Access.URL, "/")
	}
	scheme := "http"
	if c.Access.TLS.Cert != "" {
		scheme = "https"
	}
	return scheme + "://" + listening.String()
}
