package run

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ternmesh/tern/control"
	"github.com/ternmesh/tern/mesh/identity"
	"github.com/ternmesh/tern/node"
	"github.com/ternmesh/tern/sim/run/scenario"
)

const (
	meshName = "sim"
	meshPort = 7900
	// Ports of a host towards clients; nothing connects to the last two.
	clientPort, httpPort, adminPort = 8081, 8080, 7902
)

// certified is how long certificates are good for; scenarios last at most a week.
const certified = 30 * 24 * time.Hour

// ground is what a mesh needs before its first node starts: a CA, certificates, configurations and a policy.
type ground struct {
	dir      string
	scenario *scenario.Scenario
	policy   []byte            // the first document
	policies map[string][]byte // documents of policy events as they are applied, by what the file said
	parsed   []control.Policy  // all of them, for those who check
}

// prepare writes certificates beneath dir. The clock must be the one that the nodes will live by.
func prepare(dir string, s *scenario.Scenario) (*ground, error) {
	g := &ground{dir: dir, scenario: s, policies: make(map[string][]byte)}
	if err := identity.InitCA(g.ca(), meshName, time.Time{}); err != nil {
		return nil, err
	}
	for _, n := range s.Nodes {
		if err := os.MkdirAll(g.home(n.Name), 0o700); err != nil {
			return nil, err
		}
		err := identity.Issue(g.ca(), g.home(n.Name), identity.IssueOptions{Node: n.Name, Region: n.Region, Voter: n.Voter, Valid: certified})
		if err != nil {
			return nil, err
		}
	}
	var err error
	if g.policy, err = g.complete(s.Policy); err != nil {
		return nil, err
	}
	for _, e := range s.Events {
		if e.Policy != nil {
			if g.policies[string(e.Policy)], err = g.complete(e.Policy); err != nil {
				return nil, err
			}
		}
	}
	return g, nil
}

func (g *ground) ca() string              { return filepath.Join(g.dir, "ca") }
func (g *ground) home(node string) string { return filepath.Join(g.dir, node) }

// address is the emulated address of node i.
func address(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 7, byte(i >> 8), byte(i & 0xff)}) }

// public is the address at which others reach node i: its own, or that of the translator in front of it.
func (g *ground) public(i int) netip.Addr {
	if !g.scenario.Nodes[i].NAT {
		return address(i + 1)
	}
	return netip.AddrFrom4([4]byte{198, 19, byte((i + 1) >> 8), byte((i + 1) & 0xff)})
}

// config of node i: everything on the emulated network.
func (g *ground) config(i int) node.Config {
	n := g.scenario.Nodes[i]
	at := func(port uint16) string { return netip.AddrPortFrom(address(i+1), port).String() }
	var cfg node.Config
	cfg.Node = n.Name
	cfg.DataDir = filepath.Join(g.home(n.Name), "data")
	cfg.Identity = node.IdentityConfig{
		CA:   filepath.Join(g.ca(), "ca.crt"),
		Cert: filepath.Join(g.home(n.Name), n.Name+".crt"),
		Key:  filepath.Join(g.home(n.Name), n.Name+".key"),
	}
	cfg.Mesh.Listen, cfg.Mesh.Advertise = at(meshPort), netip.AddrPortFrom(g.public(i), meshPort).String()
	for j, other := range g.scenario.Nodes {
		if other.Voter && j != i {
			cfg.Mesh.Join = append(cfg.Mesh.Join, netip.AddrPortFrom(g.public(j), meshPort).String())
		}
		if other.Voter {
			cfg.Control.Expect++
		}
	}
	cfg.Mesh.Risks = risksOf(n)
	cfg.Control.Voter = n.Voter
	cfg.Access.Listen, cfg.Access.UDP, cfg.Admin.Listen = at(httpPort), at(clientPort), at(adminPort)
	cfg.Access.UDPAdvertise = []string{netip.AddrPortFrom(g.public(i), clientPort).String()}
	cfg.Access.PlainHTTP = true // no client of these listeners is outside this process
	cfg.Access.RTPHost = address(i + 1).String()
	cfg.Filter.Mode = "go"
	return cfg
}

// risksOf is what a node tells the mesh that it shares with others, at most four.
func risksOf(n scenario.Node) []string {
	risks := slices.Clone(n.SharedRisk)
	if n.Provider != "" {
		risks = append(risks, "provider:"+n.Provider)
	}
	return risks[:min(4, len(risks))]
}

// appOf is the app that carries a stream: the one it names, or a twin of that with the stream's own redundancy, for
// the policy knows redundancy per app.
func appOf(s scenario.Stream) string {
	if s.Redundancy == "" {
		return s.App
	}
	return s.App + "--" + s.Redundancy
}

// complete adds what streams need to a policy: without one, every region and every app that a stream names, unfenced.
// Twins of apps are added for streams with a redundancy of their own.
func (g *ground) complete(doc []byte) ([]byte, error) {
	p := control.Policy{Regions: []control.Region{}, Apps: []control.App{}, Blocklist: []netip.Prefix{}}
	if doc == nil {
		for _, n := range g.scenario.Nodes {
			if r := (control.Region{ID: n.Region}); !slices.Contains(p.Regions, r) {
				p.Regions = append(p.Regions, r)
			}
		}
		for _, s := range g.scenario.Streams {
			if !hasApp(p, s.App) {
				p.Apps = append(p.Apps, control.App{ID: s.App, Auth: control.AuthAppID, Redundancy: control.RedundancyFull})
			}
		}
	} else {
		var err error
		if p, err = control.Parse(doc); err != nil {
			return nil, err
		}
	}
	for _, s := range g.scenario.Streams {
		i := slices.IndexFunc(p.Apps, func(a control.App) bool { return a.ID == s.App })
		if twin := appOf(s); i >= 0 && !hasApp(p, twin) {
			app := p.Apps[i]
			app.ID, app.Redundancy = twin, s.Redundancy
			p.Apps = append(p.Apps, app)
		}
	}
	out, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	if p, err = control.Parse(out); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	g.parsed = append(g.parsed, p)
	return out, nil
}

func hasApp(p control.Policy, id string) bool {
	return slices.ContainsFunc(p.Apps, func(a control.App) bool { return a.ID == id })
}

// allowed says whether any of the scenario's policies lets an app reach a region.
func (g *ground) allowed(app, region string) bool {
	for _, p := range g.parsed {
		for _, a := range p.Apps {
			if a.ID == app && slices.Contains(p.FenceRegions(a), region) {
				return true
			}
		}
	}
	return false
}

// crashCopy copies a data directory as a machine finds it after a crash, for the next life of a node whose last one may still
// hold its files. Runs of zeros are left out: logs allocate their files ahead.
func crashCopy(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return os.MkdirAll(filepath.Join(to, name), 0o700)
		}
		return sparseCopy(path, filepath.Join(to, name))
	})
}

func sparseCopy(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	block, zeros := make([]byte, 64<<10), make([]byte, 64<<10)
	size := int64(0)
	for {
		n, readErr := io.ReadFull(in, block)
		if n > 0 && !bytes.Equal(block[:n], zeros[:n]) {
			if _, err := out.WriteAt(block[:n], size); err != nil {
				return err
			}
		}
		size += int64(n)
		switch {
		case errors.Is(readErr, io.EOF) || errors.Is(readErr, io.ErrUnexpectedEOF):
			return out.Truncate(size)
		case readErr != nil:
			return readErr
		}
	}
}
