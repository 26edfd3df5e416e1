package ebpf

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	cebpf "github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
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

func (k *kernel) putWall(p netip.Prefix) error {
	err := k.objs.Walls.Update(peerKey(p.Addr()), uint64(0), cebpf.UpdateNoExist)
	if errors.Is(err, cebpf.ErrKeyExist) {
		return nil
	}
	return err
}

func (k *kernel) dropWall(p netip.Prefix) error { return remove(k.objs.Walls, peerKey(p.Addr())) }

// wallDrops is how many packets of a source in quarantine this program has dropped; 0 when the kernel does not answer.
func (k *kernel) wallDrops(p netip.Prefix) (n uint64) {
	_ = k.objs.Walls.Lookup(peerKey(p.Addr()), &n)
	return n
}

// samplesLost is how many samples found the ring full.
func (k *kernel) samplesLost() (n uint64) {
	_ = k.objs.Budgets.Lookup(uint32(limits+1), &n)
	return n
}

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

// readSamples hands over the kernel's samples of drops until ctx ends; head is valid during the call.
func (k *kernel) readSamples(ctx context.Context, take func(verdict uint32, head []byte), missed func()) error {
	r, err := ringbuf.NewReader(k.objs.Samples)
	if err != nil {
		return fmt.Errorf("read the samples of drops: %w", err)
	}
	defer r.Close()
	stop := context.AfterFunc(ctx, func() { r.Close() })
	defer stop()
	var record ringbuf.Record
	for {
		switch err := r.ReadInto(&record); {
		case errors.Is(err, ringbuf.ErrClosed):
			return nil
		case err != nil:
			return fmt.Errorf("read the samples of drops: %w", err)
		case len(record.RawSample) < 8+sampleBytes:
			missed()
			continue
		}
		size := min(binary.NativeEndian.Uint32(record.RawSample[4:]), sampleBytes)
		take(binary.NativeEndian.Uint32(record.RawSample), record.RawSample[8:8+size])
	}
}
