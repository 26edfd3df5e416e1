package ebpf

import (
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"
)

// A member's frames and an admitted client's media go on while the filter attaches, takes rules, and detaches: nothing is
// dropped, and nothing is lost. Only a veth pair without GRO, which frees its queue when the program is taken away, may
// lose what a sender on another processor puts there at that instant (none of 1,128,529 packets over 200 detachments).
func TestKnownSendersPassWhileTheFilterComesAndGoes(t *testing.T) {
	t.Parallel()
	for name, mayLose := range map[string]uint64{"with GRO, as network cards have it": 0, "without GRO": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWire(t)
			if mayLose == 0 {
				w.setGRO(nodeIface)
			}
			comeAndGo(t, w, mayLose)
		})
	}
}

// comeAndGo allows so many lost packets for each time that the filter is taken away.
func comeAndGo(t *testing.T, w *wire, mayLose uint64) {
	mesh := receive(w.listen(w.node, fmt.Sprintf(":%d", testMesh)))
	media := receive(w.listen(w.node, fmt.Sprintf(":%d", testAccess)))
	sender := w.listen(w.sender, goodAddr4+":0")
	f := newTestFilter(t, Config{Interfaces: []string{nodeIface}, Mode: ModeXDP, GuardMesh: true, GuardAccess: true})
	f.SetMembers([]netip.Addr{netip.MustParseAddr(goodAddr4)})
	f.Admit("session", netip.MustParseAddrPort(sender.LocalAddr().String()))
	arrived := func() uint64 { return mesh(goodAddr4) + media(goodAddr4) }
	traffic := sendAll(t, sender, arrived)
	const rounds = 2
	for range rounds {
		end := w.run(f)
		before := traffic.sent.Load()
		if err := f.Update(Rules{Blocklist: badRanges}); err != nil {
			t.Fatal(err)
		}
		f.Admit("session", netip.MustParseAddrPort(sender.LocalAddr().String()))
		eventually(t, "some traffic", func() bool { return traffic.sent.Load() > before+600 })
		end()
	}
	sent := traffic.stop()
	eventually(t, fmt.Sprintf("what was not lost of %d packets is read", sent), func() bool { return arrived()+rounds*mayLose >= sent })
	for _, c := range f.Stats().XDP {
		if c.Reason.Action() == Drop {
			t.Errorf("dropped: %+v", c)
		}
	}
	t.Logf("%d packets over %d attachments, updates and detachments", sent, rounds)
}

// steady is traffic until stop is called, which returns how many packets were sent.
type steady struct {
	sent atomic.Uint64
	stop func() uint64
}

// underWay is how many packets may be between sender and reader: fewer than the wire's queue holds (256), so that nothing is
// lost while whoever empties it waits for a processor.
const underWay = 150

// sendAll sends up to ten thousand packets a second to each of our ports, in pairs.
func sendAll(t *testing.T, from net.PacketConn, arrived func() uint64) *steady {
	s, ending, done := new(steady), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		toMesh := &net.UDPAddr{IP: net.ParseIP(nodeAddr4), Port: testMesh}
		toAccess := &net.UDPAddr{IP: net.ParseIP(nodeAddr4), Port: testAccess}
		tick := time.NewTicker(100 * time.Microsecond)
		defer tick.Stop()
		for {
			select {
			case <-ending:
				return
			case <-tick.C:
			}
			if s.sent.Load() > arrived()+underWay {
				continue
			}
			_, err1 := from.WriteTo(samplePath(100), toMesh)
			_, err2 := from.WriteTo(sampleRTP(100), toAccess)
			if err1 != nil || err2 != nil {
				t.Errorf("send: %v %v", err1, err2)
				return
			}
			s.sent.Add(2)
		}
	}()
	s.stop = func() uint64 {
		close(ending)
		<-done
		return s.sent.Load()
	}
	return s
}
