package access

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
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

// Behind an address translator that maps TCP one to one, clients are told the address outside.
func TestAViewerReachesANodeBehindATranslatorOverTCP(t *testing.T) {
	inside, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	outside, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.2:%d", inside.Addr().(*net.TCPAddr).Port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = outside.Close() })
	go translate(outside, inside.Addr().String())
	w := newWorld(t, func(c *Config) {
		c.TCP = inside
		c.UDPAdvertise = append(c.UDPAdvertise[:0:0], netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), c.UDPAdvertise[0].Port()))
	})
	noUDP := func(se *webrtc.SettingEngine) { se.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeTCP4}) }
	w.publisher(client.Config{URL: "/whip/open/room?stream=cam", Source: client.Synthetic{PerSec: 50}, Setting: noUDP})
	v := w.view("/whep/open/room/cam", "", client.Config{Setting: noUDP})
	w.until("media over the translator", func() bool { return v.Stats().Packets["video"] > 20 })
}

// translate carries connections from one address to another.
func translate(from net.Listener, to string) {
	for {
		in, err := from.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp4", to)
		if err != nil {
			_ = in.Close()
			continue
		}
		go func() { _, _ = io.Copy(out, in); _ = out.Close() }()
		go func() { _, _ = io.Copy(in, out); _ = in.Close() }()
	}
}

func TestPublisherAndViewerOverIPv6(t *testing.T) {
	open := func() net.PacketConn {
		udp, err := net.ListenPacket("udp6", "[::1]:0")
		if err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("no IPv6 here: %v; CI must have it", err)
			}
			t.Skipf("no IPv6 here: %v", err)
		}
		t.Cleanup(func() { _ = udp.Close() })
		return udp
	}
	udp := open()
	// The library does not gather ::1 by itself; of a mux it does.
	ipv6 := func(se *webrtc.SettingEngine) { se.SetICEUDPMux(webrtc.NewICEUDPMux(nil, open())) }
	w := newWorld(t, func(c *Config) {
		c.UDP, c.UDPAdvertise = udp, []netip.AddrPort{udp.LocalAddr().(*net.UDPAddr).AddrPort()}
	})
	w.publisher(client.Config{URL: "/whip/open/room?stream=cam", Source: client.Synthetic{PerSec: 50}, Setting: ipv6})
	v := w.view("/whep/open/room/cam", "", client.Config{Setting: ipv6})
	w.until("media", func() bool { return v.Stats().Packets["video"] > 20 })
	pair, err := v.PeerConnection().SCTP().Transport().ICETransport().GetSelectedCandidatePair()
	if err != nil || pair.Remote.Address != "::1" {
		t.Errorf("chosen: %v (%v), want IPv6", pair, err)
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
