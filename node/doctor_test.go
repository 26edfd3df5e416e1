package node

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ternmesh/tern/mesh/identity"
)

// host makes the files of a node called fra and its configuration, with free ports of loopback.
func host(t testing.TB, valid time.Duration) Config {
	t.Helper()
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca")
	if err := identity.InitCA(ca, "test", time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := identity.Issue(ca, dir, identity.IssueOptions{Node: "fra", Region: "eu", Valid: valid}); err != nil {
		t.Fatal(err)
	}
	c := Config{
		Node: "fra", DataDir: filepath.Join(dir, "data"),
		Identity: IdentityConfig{CA: filepath.Join(ca, "ca.crt"), Cert: filepath.Join(dir, "fra.crt"), Key: filepath.Join(dir, "fra.key")},
		Mesh:     MeshConfig{Listen: free(t)},
		Access:   AccessConfig{Listen: free(t), UDP: free(t)},
		Admin:    AdminConfig{Listen: free(t)},
	}
	c.defaults()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	return c
}

// nextFree begins anywhere, so that two runs at once do not meet.
var nextFree = func() *atomic.Uint32 {
	n := new(atomic.Uint32)
	n.Store(rand.Uint32N(2000))
	return n
}()

// free is an address that is free for TCP and UDP, and none that the system gives to who asks for any port: other tests ask.
func free(t testing.TB) string {
	t.Helper()
	for range 100 {
		addr := fmt.Sprintf("127.0.0.1:%d", 30_000+nextFree.Add(1)%2000)
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		c, err := net.ListenPacket("udp", addr)
		_ = l.Close()
		if err == nil {
			_ = c.Close()
			return addr
		}
	}
	t.Fatal("no free address")
	return ""
}

// faults are the checks that are not well, without those about this host's kernel.
func faults(checks []Check) (out []Check) {
	for _, c := range checks {
		kernel := c.Name == "clock" || c.Name == "open files" || strings.HasPrefix(c.Name, "net.core.")
		if c.Status != statusOK && !kernel {
			out = append(out, c)
		}
	}
	return out
}

func TestExamineFindsNoFaultWhereThereIsNone(t *testing.T) {
	cfg := host(t, 0)
	checks := Examine(t.Context(), cfg)
	if got := faults(checks); len(got) != 0 {
		t.Errorf("got %+v", got)
	}
	if len(checks) < 9 {
		t.Errorf("only %d checks: %+v", len(checks), checks)
	}
	if _, err := os.Stat(cfg.DataDir); err == nil {
		t.Error("examining made the data directory")
	}
}

func TestExamineNamesEachFaultAndItsRemedy(t *testing.T) {
	cases := []struct {
		name, severity, what string
		valid                time.Duration
		spoil                func(t *testing.T, c *Config)
	}{
		{"identity", SeverityWarning, "ends on", 2*24*time.Hour + 12*time.Hour, func(*testing.T, *Config) {}},
		{"identity", SeverityCritical, "is for node \"fra\"", 0, func(_ *testing.T, c *Config) { c.Node = "iad" }},
		{"identity", SeverityCritical, "does not allow voting", 0, func(_ *testing.T, c *Config) { c.Control.Voter = true }},
		{"identity", SeverityCritical, "no such file", 0, func(_ *testing.T, c *Config) { c.Identity.CA += "x" }},
		{"identity.key", SeverityWarning, "mode 0644", 0, func(t *testing.T, c *Config) {
			if err := os.Chmod(c.Identity.Key, 0o644); err != nil {
				t.Fatal(err)
			}
		}},
		{"data_dir", SeverityCritical, "cannot be written", 0, func(t *testing.T, c *Config) {
			c.DataDir = filepath.Join(c.Identity.Key, "no", "folder")
		}},
		{"admin.listen", SeverityCritical, "taken by another process", 0, func(t *testing.T, c *Config) {
			l, err := net.Listen("tcp", c.Admin.Listen)
			if err != nil {
				t.Fatal(err)
			}
			go func() { // whoever holds the port does not speak HTTP
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					_ = conn.Close()
				}
			}()
			t.Cleanup(func() { _ = l.Close() })
		}},
		{"access.udp", SeverityCritical, "not an address of this host", 0, func(_ *testing.T, c *Config) { c.Access.UDP = "192.0.2.1:9000" }},
		{"mesh.join", SeverityWarning, "no.such.host.invalid", 0, func(_ *testing.T, c *Config) { c.Mesh.Join = []string{"no.such.host.invalid:7900"} }},
	}
	for _, c := range cases {
		t.Run(c.name+" "+c.what, func(t *testing.T) {
			cfg := host(t, c.valid)
			c.spoil(t, &cfg)
			for _, got := range faults(Examine(t.Context(), cfg)) {
				if got.Name == c.name && got.Status == c.severity && strings.Contains(got.What, c.what) && got.Do != "" {
					return
				}
			}
			t.Errorf("no %s %s about %q in %s", c.severity, c.name, c.what, fmt.Sprintf("%+v", faults(Examine(t.Context(), cfg))))
		})
	}
}
