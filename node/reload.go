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

	"github.com/ternmesh/tern/mesh/identity"
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
	reading  sync.Mutex // held while the file is read and taken up: a file system that hangs holds one reader, not one for each request
	mu       sync.Mutex // one reload at a time; guards cfg
	cfg      Config     // the configuration in force, with what was reloaded
	level    slog.LevelVar
	risks    atomic.Pointer[[]string]
	https    certificate
	identity identityFiles
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
	level := slog.LevelInfo
	if len(report.Restart) > 0 {
		level = slog.LevelWarn // whoever sent SIGHUP reads it here alone
	}
	n.log.Log(context.Background(), level, "configuration reloaded", "applied", report.Applied, "after_restart", report.Restart)
	return report, nil
}

// errReloading refuses a reload while another one reads the file.
var errReloading = errors.New("nothing was reloaded: another reload still reads the configuration; if this lasts, its file system does not answer")

// ReloadFile reads the configuration anew by Options.LoadConfig, which must be set, and reloads it; what goes wrong is logged
// too, for whoever sent a signal has no other answer. It waits as long as the file system does. Safe for concurrent use.
func (n *Node) ReloadFile() (report ReloadReport, err error) {
	defer func() {
		if err != nil {
			n.log.Error("configuration not reloaded", "error", err)
		}
	}()
	if !n.reloadable.reading.TryLock() {
		return report, errReloading
	}
	defer n.reloadable.reading.Unlock()
	cfg, err := n.opts.LoadConfig()
	if err != nil {
		return report, fmt.Errorf("nothing was reloaded: %w", err)
	}
	return n.Reload(cfg)
}

// reloadCertificates takes up the pairs that are watched, all of them or, if one is no good, none.
func (n *Node) reloadCertificates(cfg Config, report *ReloadReport) error {
	all := n.watched(cfg)
	for _, w := range all {
		if err := w.check(); err != nil {
			return fmt.Errorf("%s: %w", w.key, err)
		}
	}
	for _, w := range all {
		changed, err := w.load()
		if err != nil {
			return fmt.Errorf("%s: %w", w.key, err)
		}
		if changed && !slices.Contains(report.Applied, w.key+".cert") {
			report.Applied = append(report.Applied, w.key+".cert")
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
	case "identity.cert", "identity.key":
		return n.keeper == nil
	case "log.level":
		return n.reloadable.ownLog
	}
	return keys[name].reloads
}

// watchEvery is how often watched files are looked at.
const watchEvery = 10 * time.Second

// watched is a certificate on disk that a running node takes up.
type watched struct {
	key, name string
	check     func() error // whether load would take what is there
	load      func() (changed bool, err error)
	expires   func() time.Time
}

// watched lists what there is to watch under a configuration: nothing where a listener has no files of its own, and the node's
// certificate only without a lease, which brings it along.
func (n *Node) watched(cfg Config) (out []watched) {
	if n.keeper == nil && cfg.Identity.Cert != "" {
		out = append(out, watched{
			"identity", "the node's certificate",
			func() error {
				if _, err := stampOf(cfg.Identity.Cert, cfg.Identity.Key); err != nil {
					return err
				}
				return n.id.Examine(cfg.Identity.Cert, cfg.Identity.Key)
			},
			func() (bool, error) { return n.reloadable.identity.load(n.id, cfg.Identity) },
			func() time.Time { return n.id.Cert().Leaf.NotAfter },
		})
	}
	if n.reloadable.isServed && cfg.Access.TLS.Cert != "" {
		out = append(out, watchPair("access.tls", "the HTTPS certificate", cfg.Access.TLS, &n.reloadable.https))
	}
	if n.cfg.Admin.TLS.Cert != "" && cfg.Admin.TLS.Cert != "" {
		out = append(out, watchPair("admin.tls", "the admin listener's certificate", cfg.Admin.TLS, &n.adminPair))
	}
	return out
}

func watchPair(key, name string, files TLSConfig, pair *certificate) watched {
	check := func() error {
		if _, err := stampOf(files.Cert, files.Key); err != nil {
			return err
		}
		_, err := tls.LoadX509KeyPair(files.Cert, files.Key)
		return err
	}
	return watched{key, name, check, func() (bool, error) { return pair.load(files) }, pair.leafExpires}
}

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
		cfg := n.reloadable.cfg
		n.reloadable.mu.Unlock()
		for _, w := range n.watched(cfg) {
			changed, err := w.load()
			switch {
			case err != nil && err.Error() != said[w.key]:
				said[w.key] = err.Error()
				n.log.Error(w.name+" on disk is no good; the one before stays in use", "err", err, "fix", "replace "+w.key+".cert and "+w.key+".key by a matching pair")
			case changed:
				delete(said, w.key)
				n.log.Info(w.name+" was replaced", "expires", w.expires())
			}
		}
	}
}

// certificate is a TLS key pair that can be replaced while it is served.
type certificate struct {
	mu      sync.Mutex   // guards stamp
	stamp   [2]time.Time // when the files that were loaded were written
	current atomic.Pointer[tls.Certificate]
}

// load reads the files if they have changed since the last time, and says whether the pair is another one now.
func (c *certificate) load(files TLSConfig) (changed bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	stamp, err := stampOf(files.Cert, files.Key)
	if err != nil || stamp == c.stamp {
		return false, err
	}
	pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		return false, err // half replaced, perhaps: looked at again
	}
	old := c.current.Swap(&pair)
	c.stamp = stamp
	return old == nil || !old.Leaf.Equal(pair.Leaf), nil
}

// stampOf says when two files were written, and refuses what is no regular file: reading it might never end.
func stampOf(cert, key string) (stamp [2]time.Time, err error) {
	for i, f := range []string{cert, key} {
		info, err := os.Stat(f)
		if err != nil {
			return stamp, err
		}
		if !info.Mode().IsRegular() {
			return stamp, fmt.Errorf("%s is no regular file", f)
		}
		stamp[i] = info.ModTime()
	}
	return stamp, nil
}

// identityFiles remembers which files of the node's certificate were taken up.
type identityFiles struct {
	mu    sync.Mutex // guards stamp
	stamp [2]time.Time
}

// load reads the files if they have changed since the last time, and says whether the certificate is another one now.
func (f *identityFiles) load(id *identity.Identity, files IdentityConfig) (changed bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	stamp, err := stampOf(files.Cert, files.Key)
	if err != nil || stamp == f.stamp {
		return false, err
	}
	if changed, err = id.Reload(files.Cert, files.Key); err == nil {
		f.stamp = stamp
	}
	return changed, err
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
