package ebpf

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// Frames with VLAN tags (802.1Q, 802.1ad), IPv4 options and IPv6 extension headers, many damaged, go over a real wire into
// the driver: its counters must say of all together what the twin says of each. TERN_FILTER_SEED repeats a run.
func TestTaggedAndExtendedFramesOnAWire(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	seed := number(t, "TERN_FILTER_SEED", rand.Uint64())
	r := rand.New(rand.NewPCG(seed, 5))
	// Without rates no verdict depends on the time, which the two sides would not read at the same instant.
	f := newTestFilter(t, Config{Interfaces: []string{nodeIface}, Mode: ModeXDP, GuardMesh: true, GuardAccess: true, Limits: new(Limits)})
	if err := f.Update(Rules{Blocklist: drawRules(r).Blocklist}); err != nil {
		t.Fatal(err)
	}
	for range 6 {
		f.Peer(drawAddr(r).Unmap())
		f.Admit("session", netip.AddrPortFrom(drawAddr(r).Unmap(), samplePort))
	}
	stop := w.run(f)
	const rounds, run = 48, 128 // the wire's queue has room for twice as many
	want, depth := map[string]uint64{}, map[int]int{}
	got := func() map[string]uint64 {
		out := map[string]uint64{}
		for _, c := range f.Stats().XDP {
			out[c.Class.String()+" "+c.Reason.String()] = c.Packets
		}
		return out
	}
	for round := range rounds {
		var frames [][]byte
		for range run {
			p, vlans := drawTagged(r)
			depth[vlans]++
			v := f.Table().frame(p, f.guard, f.clock())
			want[v.Class.String()+" "+v.Reason.String()]++
			frames = append(frames, p)
		}
		w.inject("peer0", frames)
		eventually(t, fmt.Sprintf("the frames of round %d are counted", round), func() bool {
			ours, others := split(got())
			wantOurs, wantOthers := split(want)
			return ours >= wantOurs && others >= wantOthers
		})
	}
	stop()
	counted := got()
	for key := range counted {
		// The namespace's own neighbour discovery is not ours, and counts with it.
		if n := counted[key]; n != want[key] && (key != notOurs || n < want[key]) {
			t.Errorf("%s: the driver counted %d, the twin %d; again with TERN_FILTER_SEED=%d", key, n, want[key], seed)
		}
		delete(want, key)
	}
	if len(want) > 0 || len(counted) < 12 || depth[1] < 500 || depth[2] < 500 || depth[3] < 100 {
		t.Errorf("verdicts of the twin alone: %v; verdicts: %v; tags: %v", want, counted, depth)
	}
	t.Logf("%d frames, seed %d, by number of tags %v, counted %v", rounds*run, seed, depth, counted)
}

const notOurs = "none not_ours"

// split sums the counts of our ports and of the rest, to which the namespace's own packets add.
func split(counts map[string]uint64) (ours, others uint64) {
	for key, n := range counts {
		if key == notOurs {
			others += n
		} else {
			ours += n
		}
	}
	return ours, others
}

// drawTagged draws a frame with up to three tags, the outer ones of a provider (802.1ad) every other time.
func drawTagged(r *rand.Rand) (frame []byte, vlans int) {
	s := sample{src: drawAddr(r), port: drawPort(r), vlans: []int{0, 1, 1, 2, 2, 2, 3}[r.IntN(7)], payload: drawPayload(r)}
	if r.IntN(3) == 0 {
		s.options = r.IntN(11)
	}
	if r.IntN(8) == 0 {
		s.frag = []uint16{0x2000, 0x4000, 0x0001, 0x2008, 0x0008}[r.IntN(5)]
	}
	for s.src.Is6() && len(s.headers) < 9 && r.IntN(4) < 3 {
		s.headers = append(s.headers, []byte{0, 43, 44, 51, 60, 135, 139, 140, 60}[r.IntN(9)])
	}
	p := s.frame()
	if s.vlans > 1 && r.IntN(2) == 0 {
		p[12], p[13] = 0x88, 0xa8
	}
	if r.IntN(3) == 0 {
		p = damage(r, p)
	}
	return p, s.vlans
}

// inject writes frames to an interface of the sender's namespace, as they are.
func (w *wire) inject(dev string, frames [][]byte) {
	w.t.Helper()
	var err error
	<-w.in(w.sender, func() {
		var fd int
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return
		}
		defer unix.Close(fd)
		var i *net.Interface
		if i, err = net.InterfaceByName(dev); err != nil {
			return
		}
		to := &unix.SockaddrLinklayer{Ifindex: i.Index, Halen: 6}
		for n, p := range frames {
			if err = unix.Sendto(fd, p, 0, to); err != nil {
				err = fmt.Errorf("frame %d, %x: %w", n, p, err)
				return
			}
		}
	})
	if err != nil {
		w.t.Fatalf("inject: %v", err)
	}
}
