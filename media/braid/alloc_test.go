package braid

import (
	"context"
	"crypto/tls"
	"errors"
	"math"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// nullHandler counts packets.
type nullHandler struct{ packets int }

func (*nullHandler) Opened(*Session)                    {}
func (*nullHandler) Closed(*Session, error)             {}
func (h *nullHandler) Packet(*Session, uint16, []byte)  { h.packets++ }
func (*nullHandler) Message(s *Session, message []byte) {}

type nullWire struct{ runs, bytes int }

func (w *nullWire) WriteRun(run []byte, _ int, _ netip.AddrPort) error {
	w.runs++
	w.bytes += len(run)
	return nil
}

// still is a braid that has keys and flows but does not run.
func still(t testing.TB, self NodeID, h Handler, w Wire) *Braid {
	t.Helper()
	b, err := New(Config{
		Self: self, Secret: [32]byte{byte(self)}, Wire: w, Handler: h, RelayRate: 1e12,
		Addr:      func(id NodeID) (netip.AddrPort, bool) { return addrOf(id), true },
		RelayKey:  func(context.Context, NodeID, uint32) (Key, error) { return Key{}, errors.New("none") },
		Allow:     func(FenceID, NodeID) bool { return true },
		Paths:     threePathsOf,
		ServerTLS: func() *tls.Config { return nil }, ClientTLS: func(NodeID) *tls.Config { return nil },
		PeerID: testPeerID,
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func threePathsOf(peer NodeID, _ FenceID, _ []Path) []Path { return threePaths(peer) }

// stillSession is a session without a connection, its keys from a stand-in for the exporter.
func stillSession(t testing.TB, b *Braid, peer NodeID, dialer bool) *Session {
	f := b.flow(flowKey{peer, 1}, true)
	s := &Session{b: b, f: f, dialer: dialer, export: testExporter("x"), wake: make(chan struct{}, 1), full: make(chan struct{}, 1), asked: make(chan struct{}, 1)}
	s.rx.rescued = func(path uint8) {}
	s.rx.asks = make([]uint64, 0, maxAsked)
	s.rx.keys[1], _ = newMediaKey(s.export, s.direction(false), 0)
	s.out.key, _ = newMediaKey(s.export, s.direction(true), 0)
	s.out.slab = make([][]byte, runFrames)
	s.out.frames = make([][]byte, 0, runFrames)
	f.register(s)
	return s
}

// frameFor makes one path frame with valid MACs for node self.
func frameFor(b *Braid, h pathHeader, payload []byte) []byte {
	ms := uint64(time.Now().UnixMilli())
	epoch := epochOf(ms)
	h.length, h.time, h.flags = uint16(len(payload)), uint16(ms), uint8(epoch)<<epochShift&0x0f
	f := make([]byte, headerLen(int(h.relayN))+len(payload), MaxDatagram)
	h.put(f)
	var buf [macInputSize]byte
	key := b.KeyFor(h.source, epoch).hop()
	sign(f, macInput(&buf, f, int(h.relayN), ms), int(h.relayN), int(h.hop), &key)
	copy(f[headerLen(int(h.relayN)):], payload)
	return f
}

// relaying is one path frame of 1,150 bytes that passes through a relay again and again.
func relaying(t testing.TB, w Wire) (b *Braid, size int, pass func()) {
	b = still(t, 3, &nullHandler{}, w)
	h := pathHeader{relayN: 1, relays: [maxRelays]NodeID{3}, kind: kindMedia, fence: 1, source: 1, dest: 2}
	frame := frameFor(b, h, make([]byte, 1150))
	return b, len(frame), func() {
		frame[2] &^= 3 << 2 // back to this hop
		b.HandleFrame(frame, netip.AddrPort{})
	}
}

func TestRelayAllocatesNothing(t *testing.T) {
	w := &nullWire{}
	b, size, pass := relaying(t, w)
	allocs := testing.AllocsPerRun(1000, pass)
	if allocs != 0 || w.runs != 1001 || w.bytes != 1001*size {
		t.Errorf("%v allocations per frame, %d of 1001 frames relayed, %v", allocs, w.runs, b.Stats().Frames)
	}
}

// receiving is packets of 1,150 bytes of which three copies come, so many of them; each call takes one.
func receiving(t testing.TB, h Handler, packets int) (b *Braid, take func()) {
	b = still(t, 2, h, &nullWire{})
	stillSession(t, b, 1, false)
	key, _ := newMediaKey(testExporter("x"), 0, 0)
	var frames [][]byte
	for seq := range uint64(packets) {
		sealed := key.seal(appendRecord(make([]byte, mediaHeader, MaxDatagram), record{stream: 1, data: make([]byte, 1150)}), 0, 0, seq)
		for path := range uint8(3) {
			head := pathHeader{kind: kindMedia, fence: 1, source: 1, dest: 2, path: path, seq: uint32(seq)}
			frames = append(frames, frameFor(b, head, sealed))
		}
	}
	at := 0
	return b, func() {
		for range 3 {
			b.HandleFrame(frames[at], netip.AddrPort{})
			at++
		}
	}
}

func TestReceiveAllocatesNothing(t *testing.T) {
	h := &nullHandler{}
	const runs = 1000
	b, take := receiving(t, h, runs+1)
	allocs := testing.AllocsPerRun(runs, take)
	if allocs != 0 || h.packets != runs+1 {
		t.Errorf("%v allocations per packet with two copies, %d of %d packets delivered, %v", allocs, h.packets, runs+1, b.Stats().Frames)
	}
}

// sender is a moment of ten packets of 1,150 bytes that leaves on three paths, once buffers have grown to what is needed.
func sender(t testing.TB, w Wire) (moment func()) {
	b := still(t, 1, &nullHandler{}, w)
	s := stillSession(t, b, 2, true)
	now := time.Now()
	for _, holder := range []NodeID{2, 3, 4} {
		b.keys.get(holder, 0, now)
		epoch := epochOf(uint64(now.UnixMilli()))
		b.keys.holders[holder].keys[epoch%4] = heldKey{true, epoch, hopKey{1, 2}}
	}
	s.f.refresh()
	s.f.burst.Set(now, math.Inf(1)) // no time passes between the moments
	packet := make([]byte, 1150)
	moment = func() {
		for range 10 {
			s.Send(1, Video, packet)
		}
		s.sendMoment(now) // nothing ages, however long this takes
	}
	for range repairFrames / 10 * 2 {
		moment()
	}
	return moment
}

func TestSendAllocatesNothing(t *testing.T) {
	w := &nullWire{}
	moment := sender(t, w)
	w.runs = 0
	if allocs := testing.AllocsPerRun(100, moment); allocs != 0 {
		t.Errorf("%v allocations per moment of 10 packets on three paths", allocs)
	}
	if w.runs != 3*101 {
		t.Errorf("%d runs written, want one per path and moment", w.runs)
	}
}
