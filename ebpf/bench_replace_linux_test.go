package ebpf

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkReplaceUnderTraffic puts one full rule set after another in force on a driver that carries 20,000 packets a
// second, half of them of sources that every set blocks, half of sources that none does. A packet that is judged by
// anything but a whole set shows in the counts, which have to be those of the senders.
func BenchmarkReplaceUnderTraffic(b *testing.B) {
	w := newWire(b)
	w.setGRO(nodeIface)
	f := newTestFilter(b, Config{Interfaces: []string{nodeIface}, Mode: ModeXDP})
	sets := [2]Rules{fullSet(1), fullSet(2)}
	if err := f.Update(sets[0]); err != nil {
		b.Fatal(err)
	}
	got := receive(w.listen(w.node, fmt.Sprintf(":%d", testMesh)))
	stop := w.run(f)
	var good, bad atomic.Uint64
	done, ending := new(sync.WaitGroup), make(chan struct{})
	w.meetNeighbours(b, f)
	passed, dropped := xdpCount(f, ClassPath, ReasonOK), xdpCount(f, ClassMesh, ReasonBlocklist)
	for from, sent := range map[string]*atomic.Uint64{goodAddr4: &good, badAddr4: &bad, goodAddr6: &good, badAddr6: &bad} {
		to := nodeAddr4
		if from == goodAddr6 || from == badAddr6 {
			to = nodeAddr6
		}
		conn, addr := w.listen(w.sender, net.JoinHostPort(from, "0")), &net.UDPAddr{IP: net.ParseIP(to), Port: testMesh}
		done.Go(func() {
			for tick := time.NewTicker(200 * time.Microsecond); ; <-tick.C {
				select {
				case <-ending:
					return
				default:
				}
				if _, err := conn.WriteTo(samplePath(100), addr); err != nil {
					b.Error(err)
					return
				}
				sent.Add(1)
			}
		})
	}
	var slowest, sum time.Duration
	rounds := 0
	for b.Loop() {
		rounds++
		begin := time.Now()
		if err := f.Update(sets[rounds%2]); err != nil {
			b.Fatal(err)
		}
		took := time.Since(begin)
		slowest, sum = max(slowest, took), sum+took
	}
	close(ending)
	done.Wait()
	eventually(b, "every packet is judged", func() bool {
		return xdpCount(f, ClassPath, ReasonOK)+xdpCount(f, ClassMesh, ReasonBlocklist) >= passed+dropped+good.Load()+bad.Load()
	})
	stop()
	if n := xdpCount(f, ClassPath, ReasonOK) - passed; n != good.Load() {
		b.Errorf("%d of %d packets of good sources passed", n, good.Load())
	}
	if n := xdpCount(f, ClassMesh, ReasonBlocklist) - dropped; n != bad.Load() || got(badAddr4)+got(badAddr6) > 0 {
		b.Errorf("%d of %d packets of blocked sources dropped, %d came through", n, bad.Load(), got(badAddr4)+got(badAddr6))
	}
	b.ReportMetric(slowest.Seconds(), "slowest-s")
	b.ReportMetric(sum.Seconds()/float64(rounds), "mean-s")
	b.ReportMetric(float64(good.Load()+bad.Load()), "packets-judged")
	b.ReportMetric(0, "ns/op")
}

// fullSet is MaxRules ranges of mixed lengths that block the wire's bad sources and leave its good ones alone.
func fullSet(seed uint64) Rules {
	wire := netip.MustParsePrefix("10.77.0.0/24")
	list := slices.DeleteFunc(sampleBlocklist(MaxRules, rand.New(rand.NewPCG(seed, 9))), wire.Overlaps)
	list = append(badRanges, list...)
	for i := uint32(0); len(list) < MaxRules; i++ { // for those left out
		list = append(list, netip.PrefixFrom(crowded4(i), 32))
	}
	return Rules{Blocklist: list[:MaxRules]}
}

// meetNeighbours sends from a good source of either family until its packets are judged: until the sender knows the node's
// link address, its own stack drops most of them.
func (w *wire) meetNeighbours(b *testing.B, f *Filter) {
	for from, to := range map[string]string{goodAddr4: nodeAddr4, goodAddr6: nodeAddr6} {
		conn, addr := w.listen(w.sender, net.JoinHostPort(from, "0")), &net.UDPAddr{IP: net.ParseIP(to), Port: testMesh}
		before := xdpCount(f, ClassPath, ReasonOK)
		eventually(b, "the sender knows its neighbour", func() bool {
			if _, err := conn.WriteTo(samplePath(100), addr); err != nil {
				b.Fatal(err)
			}
			return xdpCount(f, ClassPath, ReasonOK) > before
		})
		time.Sleep(100 * time.Millisecond) // what waited for the answer is judged, too
	}
}
