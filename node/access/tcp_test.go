package access

import (
	"net"
	"strings"
	"testing"

	"github.com/pion/webrtc/v4"

	"github.com/ternmesh/tern/bench/client"
)

func TestAViewerWithoutUDPWatchesOverTCP(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		c.TCP = l
	})
	w.publish("/whip/open/room?stream=cam", "", client.Synthetic{PerSec: 50}) // over UDP
	noUDP := func(se *webrtc.SettingEngine) { se.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeTCP4}) }
	v := w.view("/whep/open/room/cam", "", client.Config{Setting: noUDP})
	w.until("media over TCP", func() bool { return v.Stats().Packets["video"] > 20 })
	pair, err := v.PeerConnection().SCTP().Transport().ICETransport().GetSelectedCandidatePair()
	if err != nil || pair.Local.Protocol != webrtc.ICEProtocolTCP {
		t.Errorf("chosen: %v (%v), want TCP", pair, err)
	}
}

func TestLiteSaysSoAndWorks(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Lite = true })
	res := w.post("/whip/open/room", "", offerOf(t, peer(t), sendonly, videoT))
	if res.code != 201 || !strings.Contains(res.body, "a=ice-lite") {
		t.Fatalf("%d %s", res.code, res.body)
	}
	w.publish("/whip/open/room?stream=cam", "", client.Synthetic{PerSec: 50})
	v := w.view("/whep/open/room/cam", "", client.Config{})
	w.until("media", func() bool { return v.Stats().Packets["video"] > 20 })
}
