package ebpf

import (
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"
)

// A member's frames and an admitted client's media go on while the filter attaches, takes rules, and detaches: at no
// moment is a known sender dropped. The driver's own queue is not ours: what a veth pair held when its mode
// changed is the kernel's to lose, so the counters of the filter are what is judged, and the rest is bounded.
func TestKnownSendersPassWhileTheFilterComesAndGoes(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	mesh := receive(w.listen(w.node, fmt.Sprintf(":%d", testMesh)))
	media := receive(w.listen(w.node, fmt.Sprintf(":%d", testAccess)))
	sender := w.listen(w.sender, goodAddr4+":0")
	f := newTestFilter(t, Config{Interfaces: []string{nodeIface}, Mode: ModeXDP, GuardMesh: true, GuardAccess: true})
	f.SetMembers([]netip.Addr{netip.MustParseAddr(goodAddr4)})
	f.Admit("session", netip.MustParseAddrPort(sender.LocalAddr().String()))

	var sent atomic.Uint64
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		toMesh := &net.UDPAddr{IP: net.ParseIP(nodeAddr4), Port: testMesh}
		toAccess := &net.UDPAddr{IP: net.ParseIP(nodeAddr4), Port: testAccess}
		tick := time.NewTicker(100 * time.Microsecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			_, err1 := sender.WriteTo(samplePath(100), toMesh)
			_, err2 := sender.WriteTo(sampleRTP(100), toAccess)
			if err1 != nil || err2 != nil {
				t.Errorf("send: %v %v", err1, err2)
				return
			}
			sent.Add(1)
		}
	}()
	const rounds = 2
	for range rounds {
		end := w.run(f)
		before := sent.Load()
		if err := f.Update(Rules{Blocklist: badRanges}); err != nil {
			t.Fatal(err)
		}
		f.Admit("session", netip.MustParseAddrPort(sender.LocalAddr().String()))
		eventually(t, "some traffic", func() bool { return sent.Load() > before+300 })
		end()
	}
	close(stop)
	<-done
	time.Sleep(50 * time.Millisecond)
	for _, c := range f.Stats().XDP {
		if c.Reason.Action() == Drop {
			t.Errorf("dropped: %+v", c)
		}
	}
	gone := 2*sent.Load() - mesh(goodAddr4) - media(goodAddr4)
	t.Logf("%d packets, %d lost over %d attachments and detachments", 2*sent.Load(), gone, rounds)
	if gone > 2*2*rounds {
		t.Errorf("%d of %d packets lost", gone, 2*sent.Load())
	}
}
