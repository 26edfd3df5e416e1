package access

import (
	"testing"

	"github.com/ternmesh/tern/bench/client"
	"github.com/ternmesh/tern/bench/conformance"
	"github.com/ternmesh/tern/node/access/token"
)

// The runner that anybody can point at any server finds nothing wrong here, and skips
// nothing.
func TestTheConformanceSuiteFindsNothing(t *testing.T) {
	for _, protocol := range []string{conformance.WHIP, conformance.WHEP} {
		t.Run(protocol, func(t *testing.T) {
			w := newWorld(t, nil)
			w.publish("/whip/demo/room?stream=cam", w.publisherToken("room"), client.Synthetic{PerSec: 50})
			cfg := conformance.Config{Protocol: protocol, URL: w.http.URL + "/" + protocol + "/demo/room", Token: w.made(token.CreateOptions{Channel: "*", Can: everything})}
			if protocol == conformance.WHEP {
				cfg.EmptyURL = w.http.URL + "/whep/demo/empty"
			}
			r, err := conformance.Run(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			for _, one := range r.Results {
				if one.Outcome != conformance.Passed {
					t.Errorf("%s (%s, %s) %s: %s", one.Name, one.Level, one.Source, one.Outcome, one.Detail)
				}
			}
			w.until("every session is deleted", func() bool {
				s := w.a.Stats().Sessions
				return s[kindWHIP] == 1 && s[kindWHEP] == 0
			})
		})
	}
}
