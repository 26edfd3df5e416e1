package ebpf_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/dchest/siphash"

	"github.com/ternmesh/tern/ebpf"
	"github.com/ternmesh/tern/media/braid"
)

// The relay test's mesh: this node and some others, one of which is no member; fence 8 does not hold node 5.
const (
	relaySelf = 3
	relayPort = 7900
)

func relayAddr(id braid.NodeID) (netip.AddrPort, bool) {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 80, 0, byte(id)}), relayPort+uint16(id)), id <= 6
}

// written is what the node's relay wrote.
type written struct {
	frame []byte
	to    netip.AddrPort
}

func (w *written) WriteRun(run []byte, _ int, to netip.AddrPort) error {
	w.frame, w.to = bytes.Clone(run), to
	return nil
}

type noHandler struct{ braid.Handler }

func newRelayBraid(t *testing.T, wire braid.Wire, onward func(braid.Onward)) *braid.Braid {
	t.Helper()
	b, err := braid.New(braid.Config{
		Self: relaySelf, Secret: [32]byte{1, 2, 3}, Wire: wire, Addr: relayAddr, Onward: onward,
		RelayKey:  func(context.Context, braid.NodeID, uint32) (k braid.Key, err error) { return k, braid.ErrNoKey },
		Allow:     func(f braid.FenceID, hop braid.NodeID) bool { return f == 7 || f == 8 && hop != 5 },
		Paths:     func(braid.NodeID, braid.FenceID, []braid.Path) []braid.Path { return nil },
		ServerTLS: func() *tls.Config { return nil },
		ClientTLS: func(braid.NodeID) *tls.Config { return nil },
		PeerID:    func(tls.ConnectionState) (braid.NodeID, error) { return 0, braid.ErrClosed },
		Handler:   noHandler{},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// drawnFrame is a path frame as doc.go of package braid writes it down, with MACs of a source that has this node's key.
type drawnFrame struct {
	bytes  []byte
	clean  bool // nothing about it keeps the kernel from relaying what user space relays
	marked bool // by a router
}

func drawRelayed(r *rand.Rand, b *braid.Braid, now time.Time) drawnFrame {
	n, path := 1+r.IntN(2), byte(r.IntN(16))
	hop := r.IntN(n)
	source, dest := uint32(1+r.IntN(7)), uint32(1+r.IntN(7))
	relays := []uint32{uint32(1 + r.IntN(6)), uint32(1 + r.IntN(6))}
	if r.IntN(10) > 0 {
		relays[hop] = relaySelf
	}
	body := make([]byte, 20+r.IntN(1280))
	sent, epochOff := now, 0
	switch r.IntN(8) {
	case 0:
		// Far from the bounds of 9.5 s in the kernel and 10 s at the node, which read the time one after the other.
		sent = sent.Add(time.Duration(r.IntN(14_000)-7_000) * time.Millisecond)
	case 1:
		sent = sent.Add(time.Duration(13_000+r.IntN(80_000)) * time.Millisecond * time.Duration(1-2*r.IntN(2)))
	case 2:
		epochOff = r.IntN(5) - 2
	}
	epoch := uint32(now.Unix()/3600) + uint32(epochOff)
	p := []byte{5, 0x10 | byte(epoch&3)<<2, byte(n) | byte(hop)<<2 | path<<4, byte(1+r.IntN(4)) | byte(r.IntN(16))<<4}
	p = binary.BigEndian.AppendUint16(p, uint16(len(body)))
	p = binary.BigEndian.AppendUint32(p, r.Uint32())
	p = binary.BigEndian.AppendUint16(p, uint16(sent.UnixMilli()))
	for _, x := range append([]uint32{uint32(7 + r.IntN(2)), source, dest}, relays[:n]...) {
		p = binary.BigEndian.AppendUint32(p, x)
	}
	input := binary.BigEndian.AppendUint64(bytes.Clone(p), uint64(sent.UnixMilli()))
	input[2] &^= 0x0c
	key := b.KeyFor(braid.NodeID(source), epoch)
	sum := siphash.Hash(binary.LittleEndian.Uint64(key[:8]), binary.LittleEndian.Uint64(key[8:]), input)
	for h := range n + 1 {
		mac := r.Uint64() // of other nodes
		if h == hop {
			mac = sum
		}
		p = append(p, binary.LittleEndian.AppendUint64(nil, mac)[:6]...)
	}
	d := drawnFrame{bytes: append(p, body...), clean: true}
	switch r.IntN(12) {
	case 0:
		d.bytes[r.IntN(24+10*n+6)] ^= 1 << r.IntN(8)
		d.clean = false
	case 1:
		d.bytes[1] |= 1 // congestion
		d.clean = false
	case 2:
		d.bytes = append(d.bytes, make([]byte, r.IntN(40))...) // padding
	case 3:
		d.marked, d.clean = true, false
	}
	d.clean = d.clean && len(d.bytes) <= braid.MaxDatagram && len(d.bytes) >= 50
	return d
}

// inIPv4 is the frame as it arrives from a member.
func (d drawnFrame) inIPv4(r *rand.Rand) []byte {
	b := append(bytes.Repeat([]byte{2}, 12), 0x08, 0x00, 0x45, 2)
	if d.marked {
		b[15] = 3
	}
	b = binary.BigEndian.AppendUint16(b, uint16(28+len(d.bytes)))
	b = append(b, 0, byte(r.IntN(256)), 0x40, 0, byte(r.IntN(256)), 17, 0, 0, 10, 80, 0, 1, 10, 80, 0, relaySelf)
	b = binary.BigEndian.AppendUint16(b, 4000)
	b = binary.BigEndian.AppendUint16(b, relayPort)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(d.bytes)))
	return append(append(b, byte(r.IntN(256)), 1), d.bytes...)
}

// The kernel sends on exactly what the node's relay would, with the same bytes to the same address, and leaves the rest to it
// untouched. The node's relay itself says what the kernel may do, as it does in a node.
func TestKernelRelaysWhatTheNodeWould(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(rand.Uint64(), 7))
	wire, decided := new(written), new(braid.Onward)
	b := newRelayBraid(t, wire, func(o braid.Onward) { decided = &o })
	k := ebpf.NewKernelRelay(t, relaySelf, relayPort, 0, netip.MustParseAddr("10.80.0.1"))
	sent, relayed, left, size := uint64(0), 0, map[bool]int{}, uint64(0)
	for i := range 20_000 {
		d := drawRelayed(r, b, time.Now())
		frame := d.inIPv4(r)
		*wire, decided = written{}, nil
		b.HandleRun(bytes.Clone(d.bytes), len(d.bytes), netip.AddrPort{}, d.marked, 0)
		if decided != nil {
			k.Put(onwardOf(b, *decided, i))
		}
		onward, out := k.Run(frame)
		switch {
		case !onward && !bytes.Equal(out, frame):
			t.Fatalf("frame %d passes, but not as it came:\n%x\n%x", i, frame, out)
		case onward && wire.frame == nil:
			t.Fatalf("frame %d: the kernel relays what the node does not: %x", i, d.bytes)
		case !onward && wire.frame != nil && d.clean:
			t.Fatalf("frame %d: the kernel leaves what is clean: %x", i, d.bytes)
		case !onward:
			left[wire.frame != nil]++
			continue
		}
		sent, size = sent+1, size+uint64(len(d.bytes))
		if why := wrongOnTheWay(out, wire); why != "" {
			t.Fatalf("frame %d: %s:\n%x\nas the node sends it: %x to %v", i, why, out, wire.frame, wire.to)
		}
		relayed++
	}
	if frames, n := k.Count(); frames != sent || n != size {
		t.Errorf("the kernel counts %d frames and %d bytes, it sent %d and %d", frames, n, sent, size)
	}
	if relayed < 3000 || left[false] < 2000 || left[true] < 100 {
		t.Errorf("%d frames relayed in the kernel, left to the node, which relayed them or not: %v", relayed, left)
	}
	t.Logf("%d frames relayed in the kernel; left to the node, which relayed them or not: %v", relayed, left)
}

// onwardOf is the decision as the node hands it to the filter. Keys are given once in a while only, as in a node.
func onwardOf(b *braid.Braid, o braid.Onward, _ int) ebpf.Onward {
	epoch, keys := b.RelayKeys(o.Source)
	out := ebpf.Onward{
		OnwardKey: ebpf.OnwardKey{Source: uint32(o.Source), Before: uint32(o.Before), Next: uint32(o.Next), Fence: uint32(o.Fence)},
		Epoch:     epoch, From: netip.MustParseAddr("10.80.0.3"), To: o.To, Interface: ebpf.LoopbackInterface,
		LinkFrom: [6]byte{2, 0, 0, 0, 0, 3}, LinkTo: [6]byte{2, 0, 0, 0, 0, 9},
	}
	for i, key := range keys {
		out.Keys[i] = key
	}
	return out
}

// wrongOnTheWay says what is wrong about a frame that leaves; empty if nothing is.
func wrongOnTheWay(p []byte, want *written) string {
	sum := uint32(0)
	for i := 14; i < 34; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(p[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	to := want.to.Addr().As4()
	switch {
	case !bytes.Equal(p[:14], []byte{2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 3, 8, 0}):
		return "wrong hardware addresses"
	case sum != 0xffff || p[15] != 2 || p[22] != 64:
		return "wrong IP header"
	case !bytes.Equal(p[26:30], []byte{10, 80, 0, 3}) || !bytes.Equal(p[30:34], to[:]):
		return "wrong IP addresses"
	case binary.BigEndian.Uint16(p[34:]) != relayPort || binary.BigEndian.Uint16(p[36:]) != want.to.Port() || p[40] != 0 || p[41] != 0:
		return "wrong UDP header"
	case !bytes.Equal(p[42:], want.frame):
		return "not the bytes that the node sends"
	}
	return ""
}

// A source that has used up three quarters of its burst is the node's business, which then sets the congestion bit or drops.
func TestKernelRelayKeepsToTheBudget(t *testing.T) {
	t.Parallel()
	const rate = 4e6 // bytes a second: 1 MB at once, of which the kernel takes 750 kB
	wire := new(written)
	var decided *braid.Onward
	b := newRelayBraid(t, wire, func(o braid.Onward) { decided = &o })
	k := ebpf.NewKernelRelay(t, relaySelf, relayPort, rate, netip.MustParseAddr("10.80.0.1"))
	r := rand.New(rand.NewPCG(1, 8))
	var d drawnFrame
	for decided == nil || !d.clean || len(d.bytes) < 1000 {
		d = drawRelayed(r, b, time.Now())
		decided = nil
		b.HandleRun(bytes.Clone(d.bytes), len(d.bytes), netip.AddrPort{}, d.marked, 0)
	}
	k.Put(onwardOf(b, *decided, 0))
	begin, size := k.Clock(), 0
	for range 2000 {
		if onward, _ := k.Run(d.inIPv4(r)); onward {
			size += len(d.bytes)
		}
	}
	took := k.Clock() - begin
	if most := 750e3 + rate*took.Seconds() + 2000; size < 740e3 || float64(size) > most {
		t.Errorf("%d bytes relayed in the kernel within %v, want 750,000 to %.0f", size, took, most)
	}
}
