package ebpf

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"
	"unsafe"

	cebpf "github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

const (
	dropBatch  = 800 // packets: fit the socket's buffer while the twin is behind
	dropRounds = 12  // each takes a tenth of a second, which the kernel waits before and after a test run
)

// threadCPU is the processor time of the calling thread. Without exact interrupt accounting in the kernel, softirqs count
// for the thread in which they ran, and the packets that a thread sends into a veth pair are received in its softirqs.
func threadCPU() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts) // cannot fail for the own thread
	return time.Duration(ts.Nano())
}

// BenchmarkDroppedPacket is what a hostile packet costs the host, interrupts and process together, where the twin drops it
// and where the kernel does: RTP noise to the access port, as a driver hands it over (frames that the kernel's test run
// redirects into a veth pair, which is in driver mode). What the making of such a frame takes is measured by frames that
// are dropped where they are made, and left out; the veth's own part counts for both.
func BenchmarkDroppedPacket(b *testing.B) {
	w := newWire(b)
	w.setGRO(nodeIface) // a veth takes frames only then, or with a program of its own
	frame := hostileFrame(w)
	twin := newTestFilter(b, Config{Mode: ModeGo, GuardAccess: true})
	socket := w.listen(w.node, fmt.Sprintf(":%d", testAccess))
	conn := twin.WrapPacketConn(socket, testAccess)
	reading := make(chan time.Duration, 1)
	go func() { // ends with the last packet, which passes
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		before := threadCPU()
		_, _, err := conn.ReadFrom(make([]byte, 2000))
		if err != nil {
			b.Errorf("the reader: %v", err)
		}
		reading <- threadCPU() - before
	}()
	dropped := func() int { return int(twin.tally[slot(ClassRTP, ReasonNotAdmitted)].Load()) }
	making := w.framesCPU(frame, "", nil)
	inStack := w.framesCPU(frame, "peer0", func(sent int) {
		for begin := time.Now(); dropped() < sent && time.Since(begin) < time.Second; {
			time.Sleep(50 * time.Microsecond)
		}
	}) - making
	seen := dropped()
	twin.Admit("last", netip.MustParseAddrPort(goodAddr4+":9"))
	last := w.listen(w.sender, goodAddr4+":9")
	if _, err := last.WriteTo(sampleRTP(9), &net.UDPAddr{IP: net.ParseIP(nodeAddr4), Port: testAccess}); err != nil {
		b.Fatal(err)
	}
	inProcess := float64((<-reading).Nanoseconds()) / float64(seen)

	f := newTestFilter(b, Config{Interfaces: []string{nodeIface}, Mode: ModeXDP, GuardAccess: true})
	stop := w.run(f)
	inKernel := w.framesCPU(frame, "peer0", nil) - making
	if n := xdpCount(f, ClassRTP, ReasonNotAdmitted); n != dropBatch*dropRounds || seen != dropBatch*dropRounds {
		b.Errorf("of %d packets the kernel dropped %d, the twin %d", dropBatch*dropRounds, n, seen)
	}
	stop()
	b.ReportMetric(inStack+inProcess, "go-ns/packet")
	b.ReportMetric(inKernel, "xdp-ns/packet")
	b.ReportMetric((inStack+inProcess)/inKernel, "go/xdp")
	b.ReportMetric(0, "ns/op")
	b.Logf("making a frame %.0f ns; the twin: stack %.0f and process %.0f ns; the kernel: %.0f ns", making, inStack, inProcess, inKernel)
}

// framesCPU makes frames in the sender's namespace and sends them out of an interface there (none: drops them), and
// returns the nanoseconds of processor time per frame in the cheapest round: the others met somebody else's interrupts.
func (w *wire) framesCPU(frame []byte, dev string, after func(sent int)) float64 {
	w.t.Helper()
	best := math.Inf(1)
	var err error
	<-w.in(w.sender, func() {
		var p *cebpf.Program
		if p, err = frameSender(dev); err != nil {
			return
		}
		defer p.Close()
		for round := 1; round <= dropRounds && err == nil; round++ {
			before := threadCPU()
			_, err = p.Run(&cebpf.RunOptions{Data: frame, Repeat: dropBatch, Flags: unix.BPF_F_TEST_XDP_LIVE_FRAMES})
			best = min(best, float64((threadCPU()-before).Nanoseconds())/dropBatch)
			if after != nil {
				after(round * dropBatch)
			}
		}
	})
	if err != nil {
		w.t.Fatalf("frames out of %q: %v", dev, err)
	}
	return best
}

// frameSender is a program that sends whatever it gets out of an interface of the calling thread's namespace.
func frameSender(dev string) (*cebpf.Program, error) {
	drop := asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()} // XDP_DROP
	if dev != "" {
		i, err := net.InterfaceByName(dev)
		if err != nil {
			return nil, err
		}
		drop = asm.Instructions{asm.Mov.Imm(asm.R1, int32(i.Index)), asm.Mov.Imm(asm.R2, 0), asm.FnRedirect.Call(), asm.Return()}
	}
	return cebpf.NewProgram(&cebpf.ProgramSpec{Type: cebpf.XDP, Instructions: drop, License: "Dual MIT/GPL"})
}

// setGRO switches generic receive offload on at the node's end, as drivers have it.
func (w *wire) setGRO(dev string) {
	w.t.Helper()
	var err error
	<-w.in(w.node, func() { err = switchGROOn(dev) })
	if err != nil {
		w.t.Fatalf("GRO of %s: %v", dev, err)
	}
}

// switchGROOn switches generic receive offload on at an interface of the calling thread's namespace.
func switchGROOn(dev string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	value := struct{ cmd, data uint32 }{unix.ETHTOOL_SGRO, 1}
	request := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&value)}
	copy(request.name[:], dev)
	if _, _, no := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); no != 0 {
		return no
	}
	return nil
}

// hostileFrame is addressed to the node's end of the wire, with a checksum that its stack accepts.
func hostileFrame(w *wire) []byte {
	s := sample{src: netip.MustParseAddr("11.1.2.3"), port: testAccess, payload: sampleRTP(200)}
	frame := s.frame()
	copy(frame, w.mac(w.node, nodeIface))
	to := netip.MustParseAddr(nodeAddr4).As4()
	copy(frame[30:], to[:])
	sealIP4(frame[14:34])
	return frame
}

// sealIP4 writes the checksum of an IPv4 header.
func sealIP4(h []byte) {
	h[10], h[11] = 0, 0
	sum := uint32(0)
	for i := 0; i < len(h); i += 2 {
		sum += uint32(h[i])<<8 | uint32(h[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	h[10], h[11] = byte(^sum>>8), byte(^sum)
}

// mac is the hardware address of an interface.
func (w *wire) mac(ns, dev string) (hw net.HardwareAddr) {
	w.t.Helper()
	<-w.in(ns, func() {
		if i, err := net.InterfaceByName(dev); err == nil {
			hw = i.HardwareAddr
		}
	})
	if len(hw) != 6 {
		w.t.Fatalf("no hardware address of %s", dev)
	}
	return hw
}
