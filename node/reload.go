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
	if r.isServed && cfg.Access.TLS.Cert != "" {
		changed, err := r.https.load(cfg.Access.TLS)
		if err != nil {
			return ReloadReport{}, fmt.Errorf("nothing was reloaded: access.tls: %w", err)
		}
		if changed && !slices.Contains(report.Applied, "access.tls.cert") {
			report.Applied = append(report.Applied, "access.tls.cert")
		}
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

// reloads says whether a key can change in this process: a certificate needs a listener that has one.
func (n *Node) reloads(name string) bool {
	switch name {
	case "access.tls.cert", "access.tls.key":
		return n.reloadable.isServed
	case "log.level":
		return n.reloadable.ownLog
	}
	return keys[name].reloads
}

// watchEvery is how often watched files are looked at.
const watchEvery = 10 * time.Second

// watchFiles takes up a certificate that was replaced on disk. A bad one is said once and changes nothing.
func (n *Node) watchFiles(ctx context.Context) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		n.reloadable.mu.Lock()
		files := n.reloadable.cfg.Access.TLS
		n.reloadable.mu.Unlock()
		if files.Cert == "" {
			continue
		}
		changed, err := n.reloadable.https.load(files)
		switch {
		case err != nil && err.Error() != said:
			said = err.Error()
			n.log.Error("the HTTPS certificate on disk is no good; the one before stays in use", "err", err, "fix", "replace access.tls.cert and access.tls.key by a matching pair")
		case changed:
			said = ""
			n.log.Info("the HTTPS certificate was replaced", "expires", n.reloadable.https.leafExpires())
		}
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
