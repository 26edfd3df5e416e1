package load

import (
	"context"
	"sync"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/transport/v4/stdnet"
	"github.com/pion/webrtc/v4"

	"github.com/ternmesh/tern/bench/client"
)

// reportEvery is how often a viewer that reads headers reports what it received, as others do.
const reportEvery = time.Second

// headers lets a client's RTP pass through wires.
func headers(setting func(*webrtc.SettingEngine), heard, sent func(heading, time.Time)) (func(*webrtc.SettingEngine), error) {
	own, err := stdnet.NewNet()
	if err != nil {
		return nil, err
	}
	return func(se *webrtc.SettingEngine) {
		if setting != nil {
			setting(se)
		}
		se.SetNet(wires{own, heard, sent})
	}, nil
}

// glance is a viewer that reads headers alone.
type glance struct {
	*client.Viewer
	books  *books
	stream int

	stop context.CancelFunc
	done chan struct{} // closed when it reports no more

	mu     sync.Mutex // guards tracks
	tracks [2]glimpsed
}

// glimpsed is what a receiver report needs of a track (RFC 3550, appendix A.3).
type glimpsed struct {
	ssrc               uint32
	started            bool
	payload            uint8
	highest, first     uint32 // sequence numbers with their turns
	received           uint32
	expectedBefore     uint32
	receivedBeforeThat uint32
}

// openGlance joins; cfg is as for client.View.
func openGlance(ctx context.Context, cfg client.Config, b *books, stream int) (session, error) {
	g := &glance{books: b, stream: stream, done: make(chan struct{})}
	cfg.Stay = true // a header does not say which of two legs brought its packet first
	var err error
	if cfg.Setting, err = headers(cfg.Setting, g.heard, nil); err != nil {
		return nil, err
	}
	if g.Viewer, err = client.View(ctx, cfg); err != nil {
		return nil, err
	}
	own, stop := context.WithCancel(context.Background())
	g.stop = stop
	go g.report(own)
	return g, nil
}

// heard takes note of a packet. A second video payload type is that of RTX, whose packets cannot be told apart without a key.
func (g *glance) heard(h heading, at time.Time) {
	kind := kindOf(h)
	g.mu.Lock()
	t := &g.tracks[kind]
	if !t.started {
		t.started, t.ssrc, t.payload = true, h.ssrc, h.payload
		t.first, t.highest = 1<<16|uint32(h.seq), 1<<16|uint32(h.seq)
	}
	known := h.payload == t.payload
	if known {
		t.received++
		if ahead := int16(h.seq - uint16(t.highest)); ahead > 0 {
			t.highest += uint32(ahead)
		}
	}
	g.mu.Unlock()
	if known {
		g.books.glimpsed(g.stream, h, at)
	}
}

// report sends receiver reports until the viewer is closed.
func (g *glance) report(ctx context.Context) {
	defer close(g.done)
	for pause(ctx, reportEvery) == nil {
		for _, r := range g.reports() {
			_ = g.PeerConnection().WriteRTCP([]rtcp.Packet{&rtcp.ReceiverReport{Reports: []rtcp.ReceptionReport{r}}}) // the next one says it too
		}
	}
}

func (g *glance) reports() (out []rtcp.ReceptionReport) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.tracks {
		t := &g.tracks[i]
		if !t.started {
			continue
		}
		expected := t.highest - t.first + 1
		span, got := expected-t.expectedBefore, t.received-t.receivedBeforeThat
		t.expectedBefore, t.receivedBeforeThat = expected, t.received
		r := rtcp.ReceptionReport{SSRC: t.ssrc, LastSequenceNumber: t.highest - 1<<16}
		if span > got {
			r.FractionLost = uint8(min(255, (span-got)*256/span))
		}
		if expected > t.received {
			r.TotalLost = min(expected-t.received, 1<<23-1)
		}
		out = append(out, r)
	}
	return out
}

// Close ends the reports, then the session.
func (g *glance) Close() error {
	g.stop()
	<-g.done
	return g.Viewer.Close()
}
