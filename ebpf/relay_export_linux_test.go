package ebpf

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	cebpf "github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// AttachPass attaches a program that passes everything to an interface of the calling thread's namespace.
func AttachPass(dev string) (io.Closer, error) {
	i, err := net.InterfaceByName(dev)
	if err != nil {
		return nil, err
	}
	p, err := cebpf.NewProgram(&cebpf.ProgramSpec{
		Type: cebpf.XDP, Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}, License: "Dual MIT/GPL",
	})
	if err != nil {
		return nil, err
	}
	defer p.Close() // the link holds it
	return link.AttachXDP(link.XDPOptions{Program: p, Interface: i.Index, Flags: link.XDPDriverMode})
}

// LoopbackInterface is where the kernel's test runs say that a packet came in.
const LoopbackInterface = 1

// KernelRelay is the program, unattached, for tests that hold it against the node's relay.
type KernelRelay struct {
	k     *kernel
	t     *testing.T
	slots relays
	far   uint64
}

// NewKernelRelay relays for self what members send to the mesh port. bytesPerSecond 0: without budgets.
func NewKernelRelay(t *testing.T, self uint32, meshPort uint16, bytesPerSecond float64, members ...netip.Addr) *KernelRelay {
	t.Helper()
	runnable(t)
	g, born := newGuard(DefaultLimits()), time.Now()
	clock := func() uint64 { return uint64(time.Since(born)) + 1 }
	k, err := openKernel(compile(Rules{MeshPort: meshPort, GuardMesh: true}), g, clock)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.close() })
	for _, a := range members {
		g.addPeer(a)
	}
	g.feed(k)
	if err := k.setRelaying(self, bytesPerSecond, clock(), uint64(time.Now().UnixMilli())); err != nil {
		t.Fatal(err)
	}
	return &KernelRelay{k: k, t: t, far: clock() + uint64(time.Hour)}
}

// Put gives the kernel a decision that does not end.
func (r *KernelRelay) Put(o Onward) {
	r.t.Helper()
	if err := r.k.putOnward(o, r.slots.slot(o.OnwardKey, 1).slot, r.far); err != nil {
		r.t.Fatal(err)
	}
}

// Run gives the attached program a frame; sent: it goes out again as out, else it passes as out.
func (r *KernelRelay) Run(frame []byte) (sent bool, out []byte) {
	r.t.Helper()
	verdict, out, err := r.k.objs.TernFilter.Test(frame)
	if err != nil {
		r.t.Fatal(err)
	}
	return verdict == 3, out // XDP_TX
}

// Clock is the time that the program goes by: what this thread sees of the system's may be ahead of it.
func (r *KernelRelay) Clock() time.Duration {
	r.t.Helper()
	now, err := r.k.clock()
	if err != nil {
		r.t.Fatal(err)
	}
	return time.Duration(now)
}

// Count sums what the kernel says that it has sent on.
func (r *KernelRelay) Count() (frames, bytes uint64) {
	for _, s := range r.slots.slots {
		c, err := r.k.onwardCount(s.slot)
		if err != nil {
			r.t.Fatal(err)
		}
		frames, bytes = frames+c.Media+c.Other, bytes+c.Bytes
	}
	return frames, bytes
}
