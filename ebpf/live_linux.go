package ebpf

import (
	"encoding/binary"
	"errors"
	"net/netip"

	cebpf "github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// peerKey is struct address of bpf/guard.h.
func peerKey(a netip.Addr) (b [16]byte) {
	w := words(a)
	binary.NativeEndian.PutUint64(b[:], w.hi)
	binary.NativeEndian.PutUint64(b[8:], w.lo)
	return b
}

// flowKey is struct flow.
func flowKey(a netip.AddrPort) (b [24]byte) {
	from := peerKey(a.Addr())
	copy(b[:], from[:])
	binary.NativeEndian.PutUint32(b[16:], uint32(a.Port()))
	return b
}

func (k *kernel) putPeer(a netip.Addr) error  { return insert(k.objs.Peers, peerKey(a)) }
func (k *kernel) dropPeer(a netip.Addr) error { return remove(k.objs.Peers, peerKey(a)) }

func (k *kernel) putFlow(a netip.AddrPort) error  { return insert(k.objs.Flows, flowKey(a)) }
func (k *kernel) dropFlow(a netip.AddrPort) error { return remove(k.objs.Flows, flowKey(a)) }

// insert adds a key with empty buckets; one that is there keeps its own.
func insert[K any](m *cebpf.Map, key K) error {
	if err := m.Update(key, [2]uint64{}, cebpf.UpdateNoExist); err != nil && !errors.Is(err, cebpf.ErrKeyExist) {
		return err
	}
	return nil
}

func remove[K any](m *cebpf.Map, key K) error {
	if err := m.Delete(key); err != nil && !errors.Is(err, cebpf.ErrKeyNotExist) {
		return err
	}
	return nil
}

// flowSeen is when the kernel last let a packet of a flow through, in the twin's time; 0 if never.
func (k *kernel) flowSeen(a netip.AddrPort) uint64 {
	var buckets [2]uint64
	if err := k.objs.Flows.Lookup(flowKey(a), &buckets); err != nil {
		return 0
	}
	if at := max(buckets[0], buckets[1]); at > k.shift {
		return at - k.shift
	}
	return 0
}

// monotonic is the clock that the program reads, in nanoseconds.
func monotonic() uint64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // cannot fail for this clock
	return uint64(ts.Nano())
}
