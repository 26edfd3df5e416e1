package access

import (
	"testing"

	"github.com/ternmesh/tern/bench/client"
	"github.com/ternmesh/tern/node/access/token"
)

func TestPolicyThatChangesDuringAJoinEndsIt(t *testing.T) {
	var asked, revokeAt int
	w := newWorld(t, func(c *Config) {
		app := c.App
		c.App = func(id string) (App, bool) { // one join at a time: no guard
			if asked++; revokeAt != 0 && asked >= revokeAt {
				return App{App: token.App{ID: id, Auth: token.AuthToken, Certificates: []string{"third-secret"}}}, true
			}
			return app(id)
		}
	})
	w.publish("/whip/demo/room?stream=cam", w.publisherToken("room"), client.Synthetic{PerSec: 50})
	publisher, viewer := w.publisherToken("room"), w.viewerToken("room")
	offer, watch := offerOf(t, peer(t), sendonly, videoT), offerOf(t, peer(t), recvonly, videoT)
	for _, tc := range []struct{ kind, path, tok, contentType, body string }{
		{kindWHIP, "/whip/demo/room", publisher, typeSDP, offer},
		{kindWHEP, "/whep/demo/room/cam", viewer, typeSDP, watch},
		{kindRTP, "/v1/apps/demo/channels/room/rtp", publisher, typeJSON, "{}"},
	} {
		asked, revokeAt = 0, 2 // the first question is the gate's
		res := w.do("POST", tc.path, tc.body, "Content-Type", tc.contentType, "Authorization", "Bearer "+tc.tok)
		s := w.a.Stats()
		if res.code != 401 || s.Ended[Event{tc.kind, "revoked: bad_signature"}] != 1 || s.Sessions[kindWHIP] != 1 || s.Sessions[kindWHEP]+s.Sessions[kindRTP] != 0 {
			t.Errorf("%s: the policy was revoked between gate and registration, but: %d %s, sessions %v, ended %v", tc.kind, res.code, res.body, s.Sessions, s.Ended)
		}
	}
}
