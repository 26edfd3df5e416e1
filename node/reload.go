package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// ReloadReport says what became of a changed configuration: keys in force now, and keys that wait for a restart.
type ReloadReport struct {
	Applied []string `json:"applied"`
	Restart []string `json:"restart"`
}

func (r ReloadReport) String() string {
	if len(r.Applied)+len(r.Restart) == 0 {
		return "nothing has changed"
	}
	return fmt.Sprintf("in force: %v; after a restart: %v", r.Applied, r.Restart)
}

// reloadable is what a running node takes up from a changed configuration.
type reloadable struct {
	mu       sync.Mutex // one reload at a time; guards cfg
	cfg      Config     // the configuration in force, with what was reloaded
	level    slog.LevelVar
	risks    atomic.Pointer[[]string]
	https    certificate
	ownLog   bool // the logger is ours, so that its level can change
	isServed bool // the HTTPS listener has a certificate
}

func (r *reloadable) start(cfg Config) {
	r.cfg = cfg
	r.level.Set(levelOf(cfg.Log.Level))
	r.risks.Store(&cfg.Mesh.Risks)
}

// Reload puts what can change of a configuration into force, and says what waits for a restart. cfg comes from LoadConfig; it
// is taken up whole or, if a file that it names is no good, not at all. Safe for concurrent use.
func (n *Node) Reload(cfg Config) (ReloadReport, error) {
	r := &n.reloadable
	r.mu.Lock()
	defer r.mu.Unlock()
	report := ReloadReport{Applied: []string{}, Restart: []string{}}
	before := leaves(reflect.ValueOf(&r.cfg).Elem(), "")
	for i, now := range leaves(reflect.ValueOf(&cfg).Elem(), "") {
		switch {
		case reflect.DeepEqual(before[i].value.Interface(), now.value.Interface()):
		case n.reloads(now.key):
			report.Applied = append(report.Applied, now.key)
		default:
			report.Restart = append(report.Restart, now.key)
		}
	}
	if err := n.reloadCertificates(cfg, &report); err != nil {
		return ReloadReport{}, fmt.Errorf("nothing was reloaded: %w", err)
	}
	r.level.Set(levelOf(cfg.Log.Level))
	r.risks.Store(&cfg.Mesh.Risks)
	for i, now := range leaves(reflect.ValueOf(&cfg).Elem(), "") {
		if n.reloads(now.key) {
			before[i].value.Set(now.value)
		}
	}
	n.log.Info("configuration reloaded", "applied", report.Applied, "after_restart", report.Restart)
	return report, nil
}

// reloadCertificates takes up the pairs that are served, all of them or, if one is no good, none.
func (n *Node) reloadCertificates(cfg Config, report *ReloadReport) error {
	type served struct {
		key   string
		files TLSConfig
		pair  *certificate
	}
	var all []served
	if n.reloadable.isServed && cfg.Access.TLS.Cert != "" {
		all = append(all, served{"access.tls", cfg.Access.TLS, &n.reloadable.https})
	}
	if n.cfg.Admin.TLS.Cert != "" && cfg.Admin.TLS.Cert != "" {
		all = append(all, served{"admin.tls", cfg.Admin.TLS, &n.adminPair})
	}
	for _, s := range all {
		if _, err := tls.LoadX509KeyPair(s.files.Cert, s.files.Key); err != nil {
			return fmt.Errorf("%s: %w", s.key, err)
		}
	}
	for _, s := range all {
		changed, err := s.pair.load(s.files)
		if err != nil {
			return fmt.Errorf("%s: %w", s.key, err)
		}
		if changed && !slices.Contains(report.Applied, s.key+".cert") {
			report.Applied = append(report.Applied, s.key+".cert")
		}
	}
	return nil
}

// reloads says whether a key can change in this process: a certificate needs a listener that has one.
func (n *Node) reloads(name string) bool {
	switch name {
	case "access.tls.cert", "access.tls.key":
		return n.reloadable.isServed
	case "admin.tls.cert", "admin.tls.key":
		return n.cfg.Admin.TLS.Cert != ""
	case "log.level":
		return n.reloadable.ownLog
	}
	return keys[name].reloads
}

// watchEvery is how often watched files are looked at.
const watchEvery = 10 * time.Second

// watchFiles takes up certificates that were replaced on disk. A bad one is said once and changes nothing.
func (n *Node) watchFiles(ctx context.Context) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	said := make(map[string]string)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		n.reloadable.mu.Lock()
		clients, operators := n.reloadable.cfg.Access.TLS, n.reloadable.cfg.Admin.TLS
		n.reloadable.mu.Unlock()
		if n.reloadable.isServed {
			n.watchPair("access.tls", clients, &n.reloadable.https, said)
		}
		if n.cfg.Admin.TLS.Cert != "" {
			n.watchPair("admin.tls", operators, &n.adminPair, said)
		}
	}
}

// watchPair looks at one pair of files; said is the last complaint about each.
func (n *Node) watchPair(key string, files TLSConfig, pair *certificate, said map[string]string) {
	if files.Cert == "" {
		return
	}
	changed, err := pair.load(files)
	switch {
	case err != nil && err.Error() != said[key]:
		said[key] = err.Error()
		n.log.Error("the HTTPS certificate on disk is no good; the one before stays in use", "key", key, "err", err,
			"fix", "replace "+key+".cert and "+key+".key by a matching pair")
	case changed:
		delete(said, key)
		n.log.Info("the HTTPS certificate was replaced", "key", key, "expires", pair.leafExpires())
	}
}

// certificate is a TLS key pair that can be replaced while it is served.
type certificate struct {
	mu      sync.Mutex // guards stamp
	stamp   [2]time.Time
	current atomic.Pointer[tls.Certificate]
}

// load reads the files if they have changed since the last time, and says whether the pair is another one now.
func (c *certificate) load(files TLSConfig) (changed bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var stamp [2]time.Time
	for i, f := range []string{files.Cert, files.Key} {
		info, err := os.Stat(f)
		if err != nil {
			return false, err
		}
		stamp[i] = info.ModTime()
	}
	if stamp == c.stamp {
		return false, nil
	}
	pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		return false, err // half replaced, perhaps: looked at again
	}
	old := c.current.Swap(&pair)
	c.stamp = stamp
	return old == nil || !old.Leaf.Equal(pair.Leaf), nil
}

// get is a tls.Config's GetCertificate.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if pair := c.current.Load(); pair != nil {
		return pair, nil
	}
	return nil, errors.New("no certificate was loaded")
}

func (c *certificate) leafExpires() time.Time {
	if pair := c.current.Load(); pair != nil {
		return pair.Leaf.NotAfter
	}
	return time.Time{}
}
