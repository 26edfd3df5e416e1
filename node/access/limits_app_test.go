package access

import (
	"testing"

	"github.com/ternmesh/tern/bench/client"
)

func TestAppLimits(t *testing.T) {
	for reason, tc := range map[string]struct {
		limits Limits
		open   func(w *world) int // opens one more than allowed, returns the last answer
	}{
		"app_publishers": {Limits{Publishers: 2}, func(w *world) int { // one is there
			w.opened(kindRTP, w.publisherToken("room"))
			return w.opened(kindRTP, w.publisherToken("room")).code
		}},
		"app_viewers": {Limits{Viewers: 1}, func(w *world) int {
			w.opened(kindWHEP, w.viewerToken("room"))
			return w.opened(kindWHEP, w.viewerToken("room")).code
		}},
		"app_channels": {Limits{Channels: 1}, func(w *world) int {
			w.opened(kindRTP, w.publisherToken("room"))
			return w.do("POST", "/v1/apps/demo/channels/another/rtp", "", "Authorization", "Bearer "+w.publisherToken("another")).code
		}},
	} {
		t.Run(reason, func(t *testing.T) {
			w := newWorld(t, nil)
			w.demo(func(a *App) { a.Limits = tc.limits })
			w.publish("/whip/demo/room?stream=cam", w.publisherToken("room"), client.Synthetic{PerSec: 20})
			if code := tc.open(w); code != 429 {
				t.Errorf("one too many: %d", code)
			}
			if got := w.a.Stats(); got.Refused[reason] != 1 || got.Sessions[kindWHIP]+got.Sessions[kindRTP]+got.Sessions[kindWHEP] != 2 && reason != "app_channels" {
				t.Errorf("refused %v, sessions %v", got.Refused, got.Sessions)
			}
		})
	}
}
