package mesh

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/ternmesh/tern/mesh/identity"
)

// What a node says of itself counts by its card's certificate: one that is renewed brings a new card, before the old
// certificate ends, although nothing else has changed.
func TestARenewedCertificateTravels(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		const life = 2 * time.Minute
		files := t.TempDir()
		issue := func() (*identity.Identity, string, string) {
			cert, key := filepath.Join(files, "fra.crt"), filepath.Join(files, "fra.key")
			o := identity.IssueOptions{Node: "fra", Region: "eu", NotBefore: time.Now().Add(-time.Minute), Valid: time.Minute + life}
			if err := identity.Issue(w.ca, files, o); err != nil {
				t.Fatal(err)
			}
			id, err := identity.Load(filepath.Join(w.ca, "ca.crt"), cert, key)
			if err != nil {
				t.Fatal(err)
			}
			return id, cert, key
		}
		id, cert, key := issue()
		fra := w.add("fra", 1, func(c *Config) { c.Identity = id }).start()
		iad := w.add("iad", 2, nil).start(fra.addr.String())
		within(t, 20*time.Second, "both see each other", allSee([]*node{fra, iad}, 2))
		for range 4 { // two lives of a certificate
			time.Sleep(life / 2)
			issue()
			if changed, err := id.Reload(cert, key); !changed || err != nil {
				t.Fatal(changed, err)
			}
		}
		fra.say(func(h *Health) { h.Load = 0.5 }) // a row, signed by the fifth certificate
		within(t, 5*time.Second, "iad believes what fra says", func() bool {
			m, ok := iad.Lookup("fra")
			return ok && m.Health.Load == 0.5
		})
	})
}
