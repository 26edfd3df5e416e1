package demo

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ternmesh/tern/mesh/identity"
	"github.com/ternmesh/tern/node"
	"github.com/ternmesh/tern/node/access/token"
)

const (
	meshName = "demo"
	appID    = "demo"
	// anyChannel lets one token enter every channel of the app.
	anyChannel = "*"
	// tokenTTL is how long a page that stays open works.
	tokenTTL = 24 * time.Hour
	// certificateTTL outlives every demo.
	certificateTTL = 7 * 24 * time.Hour
)

// ground is what a mesh needs before its first node starts, made on the fly in a temporary directory.
type ground struct {
	dir         string
	certificate string   // the app's secret
	fence       []string // regions that the app's media may touch; nil: all
}

// prepare makes the CA, the certificates of all nodes and the app's secret beneath dir.
func prepare(dir string) (*ground, error) {
	secret := make([]byte, 16)
	if _, err := rand.Read(secret); err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	g := &ground{dir: dir, certificate: hex.EncodeToString(secret)}
	if err := identity.InitCA(g.ca(), meshName, time.Time{}); err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	for _, c := range cities {
		if err := os.MkdirAll(g.home(c), 0o700); err != nil {
			return nil, fmt.Errorf("demo: %w", err)
		}
		err := identity.Issue(g.ca(), g.home(c), identity.IssueOptions{Node: c.node, Region: c.region, Voter: c.voter, Valid: certificateTTL})
		if err != nil {
			return nil, fmt.Errorf("demo: %w", err)
		}
	}
	return g, nil
}

func (g *ground) ca() string         { return filepath.Join(g.dir, "ca") }
func (g *ground) home(c city) string { return filepath.Join(g.dir, c.node) }

// config is the configuration of city i: mesh port on the emulated network, everything for clients on loopback at free ports.
func (g *ground) config(i int) node.Config {
	c := cities[i]
	var cfg node.Config
	cfg.Node = c.node
	cfg.DataDir = filepath.Join(g.home(c), "data")
	cfg.Identity = node.IdentityConfig{
		CA:   filepath.Join(g.ca(), "ca.crt"),
		Cert: filepath.Join(g.home(c), c.node+".crt"),
		Key:  filepath.Join(g.home(c), c.node+".key"),
	}
	cfg.Mesh.Listen = meshAddr(i).String()
	cfg.Mesh.Advertise = cfg.Mesh.Listen
	for j := range cities {
		if j != i {
			cfg.Mesh.Join = append(cfg.Mesh.Join, meshAddr(j).String())
		}
	}
	cfg.Control.Voter = c.voter
	for _, other := range cities {
		if other.voter {
			cfg.Control.Expect++
		}
	}
	cfg.Access.Listen = "127.0.0.1:0"
	cfg.Access.UDP = "127.0.0.1:0"
	cfg.Admin.Listen, cfg.Admin.Anonymous = "127.0.0.1:0", node.AnonymousRead // a demo's console is for whoever sits here
	cfg.Filter.Mode = "go"                                                    // the demo runs without privileges and leaves the machine's interfaces alone
	return cfg
}

// policy is the document that founds the mesh: all regions, and one app, without a fence of its own unless a test sets one.
func (g *ground) policy() []byte {
	var b strings.Builder
	b.WriteString("regions:\n")
	for _, c := range cities {
		fmt.Fprintf(&b, "  - {id: %s}\n", c.region)
	}
	fmt.Fprintf(&b, "apps:\n  - id: %s\n    name: demonstration\n    certificates: [%s]\n    auth: token\n    redundancy: full\n", appID, g.certificate)
	if g.fence != nil {
		fmt.Fprintf(&b, "    fence: [%s]\n", strings.Join(g.fence, ", "))
	}
	return []byte(b.String())
}

// token lets its holder publish and watch every channel.
func (g *ground) token() (string, error) {
	return token.Create(token.CreateOptions{
		Format: token.FormatJWT, App: appID, Certificate: g.certificate, Channel: anyChannel,
		Now: time.Now(), TTL: tokenTTL,
		Can: []string{token.CanPublishAudio, token.CanPublishVideo, token.CanPublishData, token.CanSubscribe},
	})
}
