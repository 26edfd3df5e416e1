package run

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	benchclient "github.com/ternmesh/tern/bench/client"
	"github.com/ternmesh/tern/node"
	"github.com/ternmesh/tern/sim"
	"github.com/ternmesh/tern/sim/run/measure"
	"github.com/ternmesh/tern/sim/run/scenario"
)

// clientPackets is the UDP port of a client.
const clientPackets = 5000

// A client gives a session up, and joins again, when its node has been silent for lostAfter + gaveUpAfter, as a player that
// watches its own packets would. The library's defaults are half a minute.
const (
	lostAfter   = 2 * time.Second
	gaveUpAfter = 2 * time.Second
	aliveEvery  = 500 * time.Millisecond
)

// client is a real WebRTC client on a host of its own, behind a last mile. Its HTTP goes straight to the node, its
// media over the emulated network.
type client struct {
	mesh *mesh
	host *sim.Host
	addr netip.Addr

	at       *member
	lastMile sim.Link      // without the changes of events
	moved    chan struct{} // capacity 1: the client has got a new network and knows it
	heard    atomic.Int64  // instant of the last packet of a viewer's, Unix nanoseconds
}

// newClient makes a client of a node; the stream's last mile holds for both directions, and to every node that it may be sent to.
func (m *mesh) newClient(name string, at *member, stream scenario.Stream) *client {
	m.clients++
	hi, lo := byte(m.clients>>8), byte(m.clients)
	c := &client{mesh: m, at: at, lastMile: stream.LastMile, moved: make(chan struct{}, 1), addr: netip.AddrFrom4([4]byte{10, 9, hi, lo})}
	c.host = m.net.Host(name, c.addr)
	c.setLastMile(stream.LastMile)
	if stream.NAT != 0 {
		m.net.SetNAT(name, sim.NAT{Kind: stream.NAT, Public: netip.AddrFrom4([4]byte{198, 18, hi, lo})})
	}
	return c
}

func (c *client) setLastMile(l sim.Link) {
	for node := range c.mesh.byName {
		c.mesh.net.SetLink(c.host.Name(), node, l)
		c.mesh.net.SetLink(node, c.host.Name(), l)
	}
}

// session is what publishers and viewers share.
type session interface {
	Close() error
	Done() <-chan struct{}
}

// join opens a session with a fresh port and keeps it until it ends or ctx does.
func (c *client) join(ctx context.Context, cfg benchclient.Config, open func(context.Context, benchclient.Config) (session, error)) {
	conn, err := c.host.ListenPacket(ctx, netip.AddrPortFrom(c.addr, clientPackets))
	if err != nil {
		return
	}
	mux := webrtc.NewICEUDPMux(nil, conn)
	defer func() {
		_ = mux.Close()
		_ = conn.Close()
	}()
	transport := &http.Transport{DialContext: c.mesh.tcp.dial, DisableKeepAlives: true}
	cfg.HTTP = &http.Client{Transport: transport}
	cfg.Setting = func(se *webrtc.SettingEngine) {
		se.SetICEUDPMux(mux)
		se.SetICETimeouts(lostAfter, gaveUpAfter, aliveEvery)
		se.SetIPFilter(func(net.IP) bool { return true })
	}
	limit, cancel := context.WithTimeout(ctx, 2*askTimeout)
	defer cancel()
	s, err := open(limit, cfg)
	if err != nil {
		if ctx.Err() == nil {
			c.mesh.note("%s could not join at %s: %v", c.host.Name(), c.at.Name, err)
		}
		return
	}
	c.stay(ctx, s)
	_ = s.Close()
}

// stay returns when a session is over: the peer connection failed, the client has moved to another network, or a viewer that was served
// hears nothing any more.
func (c *client) stay(ctx context.Context, s session) {
	for ctx.Err() == nil {
		select {
		case <-s.Done():
			return
		case <-c.moved:
			return
		case <-ctx.Done():
			return
		case <-time.After(aliveEvery):
		}
		if last := c.heard.Load(); last > 0 && time.Since(time.Unix(0, last)) > lostAfter+gaveUpAfter {
			c.heard.Store(0)
			return
		}
	}
}

// handover gives the client another network: a new public address, which it knows of.
func (c *client) handover() {
	c.mesh.net.Rebind(c.host.Name())
	select {
	case c.moved <- struct{}{}:
	default: // it has not got over the last one yet
	}
}

// publishURL and watchURL name a stream at a node.
func publishURL(n *node.Node, f *flow) string {
	return n.AccessURL() + "/whip/" + f.key.App + "/" + f.key.Channel + "?stream=" + f.key.Stream
}

func watchURL(n *node.Node, f *flow) string {
	return n.AccessURL() + "/whep/" + f.key.App + "/" + f.key.Channel + "/" + f.key.Stream
}

// publish is one WHIP session.
func (c *client) publish(ctx context.Context, n *node.Node, f *flow) {
	cfg := benchclient.Config{URL: publishURL(n, f), Token: f.key.App, Source: source{f}}
	c.join(ctx, cfg, func(ctx context.Context, cfg benchclient.Config) (session, error) {
		return benchclient.Publish(ctx, cfg)
	})
	f.current.Store(nil)
}

// watch is one WHEP session.
func (c *client) watch(ctx context.Context, n *node.Node, v *view) {
	cfg := benchclient.Config{URL: watchURL(n, v.flow), Token: v.flow.key.App}
	cfg.OnPacket = func(_ string, p *rtp.Packet, at time.Time) {
		c.heard.Store(at.UnixNano())
		v.received(p)
	}
	c.join(ctx, cfg, func(ctx context.Context, cfg benchclient.Config) (session, error) {
		viewer, err := benchclient.View(ctx, cfg)
		if err == nil {
			ask := func() { _ = viewer.RequestKeyframe() }
			v.askKey.Store(&ask)
		}
		return viewer, err
	})
	v.askKey.Store(nil)
}

// source hands a flow's packets to a WebRTC publisher; the flow keeps the time.
type source struct{ flow *flow }

// Tracks implements client.Source.
func (s source) Tracks() []benchclient.Track {
	if s.flow.Kind == scenario.Audio {
		return []benchclient.Track{{Kind: "audio", Codec: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2}}}
	}
	return []benchclient.Track{{Kind: "video", Codec: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90000}}}
}

// Run implements client.Source.
func (s source) Run(ctx context.Context, keyframe <-chan struct{}, send func(int, *rtp.Packet) error) error {
	payload := make([]byte, s.flow.Size-12)
	s.flow.current.Store(&outlet{func(stamp measure.Stamp) {
		stamp.WritePayload(payload)
		_ = send(0, &rtp.Packet{
			Header:  rtp.Header{Version: 2, SequenceNumber: uint16(stamp.Number), Timestamp: uint32(stamp.Sent / 1e6 * 90)},
			Payload: payload,
		})
	}})
	defer s.flow.current.Store(nil)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-keyframe:
			s.flow.wantKey.Store(true)
		}
	}
}
