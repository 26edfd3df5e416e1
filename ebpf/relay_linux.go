package ebpf

import (
	"encoding/binary"
	"errors"

	cebpf "github.com/cilium/ebpf"
)

// setRelaying tells the program who it relays for, at what cost, and what time it is: now by the twin's clock, unixMS by the
// node's.
func (k *kernel) setRelaying(self uint32, bytesPerSecond float64, now, unixMS uint64) error {
	b := binary.BigEndian.AppendUint32(nil, self)
	cost := uint32(0)
	if bytesPerSecond > 0 {
		cost = uint32(min(1e9*1024/bytesPerSecond, 1<<31))
	}
	b = binary.NativeEndian.AppendUint32(b, cost)
	b = append64(b, tickNS(), unixMS-(now+k.shift)/1e6)
	return k.objs.Relaying.Put(uint32(0), b)
}

// onwardKey is struct onward_key of bpf/relay.h.
func onwardKey(o OnwardKey) (b [16]byte) {
	for i, x := range []uint32{o.Source, o.Before, o.Next, o.Fence} {
		binary.BigEndian.PutUint32(b[4*i:], x)
	}
	return b
}

// putOnward writes struct onward; until is by the twin's clock. The source's budget is there before the decision.
func (k *kernel) putOnward(o Onward, slot uint32, until uint64) error {
	var source [4]byte
	binary.BigEndian.PutUint32(source[:], o.Source)
	if err := k.objs.RelayBudgets.Update(source, uint64(0), cebpf.UpdateNoExist); err != nil && !errors.Is(err, cebpf.ErrKeyExist) {
		return err
	}
	var keys [4][16]byte
	epochs := uint32(0)
	for i, key := range o.Keys {
		at := (o.Epoch + uint32(i) - 1) & 3
		keys[at] = key
		epochs |= 1 << at
	}
	b := append64(nil, until+k.shift)
	for _, key := range keys { // SipHash reads its key little-endian, whatever the machine
		b = append64(b, binary.LittleEndian.Uint64(key[:8]), binary.LittleEndian.Uint64(key[8:]))
	}
	b = append32(b, epochs, uint32(o.Interface), slot)
	b = append(append(b, o.From.AsSlice()...), o.To.Addr().AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, o.To.Port())
	b = append(append(b, o.LinkTo[:]...), o.LinkFrom[:]...)
	return k.objs.Onwards.Put(onwardKey(o.OnwardKey), pad(b, 6))
}

func (k *kernel) dropOnward(o OnwardKey) error { return remove(k.objs.Onwards, onwardKey(o)) }

// onwardCount reads struct onward_count.
func (k *kernel) onwardCount(slot uint32) (c OnwardCount, err error) {
	var n [3]uint64
	err = k.objs.OnwardCounts.Lookup(slot, &n)
	return OnwardCount{Media: n[0], Other: n[1], Bytes: n[2]}, err
}
