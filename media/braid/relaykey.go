package braid

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"

	"github.com/dchest/siphash"
)

// epochSeconds is the life of a relay key. A holder accepts the previous, the current and the next epoch, so clocks may
// differ and a fetch may be late by most of an hour.
const epochSeconds = 3600

// freshnessMS is how far, in milliseconds, a frame's send time may lie from this node's clock. It bounds replays, and
// with it the clock error that the mesh tolerates.
const freshnessMS = 10_000

// deriveKey is K(holder, user, epoch): the holder of secret computes it when a frame of user arrives and stores nothing.
func deriveKey(secret *[32]byte, user NodeID, epoch uint32) Key {
	mac := hmac.New(sha256.New, secret[:])
	var b [8]byte
	binary.BigEndian.PutUint32(b[:4], uint32(user))
	binary.BigEndian.PutUint32(b[4:], epoch)
	mac.Write([]byte("tern relay key"))
	mac.Write(b[:])
	var k Key
	copy(k[:], mac.Sum(nil))
	return k
}

// hopKey is a Key as SipHash wants it.
type hopKey struct{ k0, k1 uint64 }

func (k Key) hop() hopKey {
	return hopKey{binary.LittleEndian.Uint64(k[:8]), binary.LittleEndian.Uint64(k[8:])}
}

func (k *hopKey) sum(b []byte) uint64 { return siphash.Hash(k.k0, k.k1, b) }

func epochOf(unixMS uint64) uint32 { return uint32(unixMS / 1000 / epochSeconds) }

// nearestEpoch rebuilds an epoch from its two low bits. The distance is -1, 0 or 1; anything else is refused.
func nearestEpoch(now uint32, bits uint8) (epoch uint32, ok bool) {
	switch (bits - uint8(now)) & 3 {
	case 0:
		return now, true
	case 1:
		return now + 1, true
	case 3:
		return now - 1, true
	}
	return 0, false
}

// source is what a node keeps per node whose frames it checks: keys it can derive again, and a budget.
type source struct {
	epoch  uint32    // of keys[1]
	keys   [3]hopKey // previous, current, next
	budget bucket
}

// sources caches derived keys. The zero value is not usable: secret must be set. Not safe for concurrent use.
type sources struct {
	secret [32]byte
	rate   float64 // bytes a second that one source may have relayed
	known  map[NodeID]*source
	input  [macInputSize]byte // scratch
}

// maxSources bounds the cache; it is emptied when full, since every entry can be derived again.
const maxSources = 8192

// get returns the entry of a member; now is the current epoch.
func (s *sources) get(id NodeID, now uint32) *source {
	e := s.known[id]
	if e != nil && e.epoch == now {
		return e
	}
	if e == nil {
		if len(s.known) >= maxSources {
			clear(s.known)
		}
		e = &source{budget: bucket{rate: s.rate, burst: s.rate / 4, tokens: s.rate / 4}}
		s.known[id] = e
	}
	e.epoch = now
	for i := range e.keys {
		e.keys[i] = deriveKey(&s.secret, id, now+uint32(i)-1).hop()
	}
	return e
}

// check verifies the MAC of hop number hop of a frame and its freshness. It returns the source's full send time.
func (e *source) check(frame []byte, h *pathHeader, hop int, nowMS uint64, input *[macInputSize]byte) (sentMS uint64, why DropReason) {
	epoch, ok := nearestEpoch(e.epoch, h.epochBits())
	if !ok {
		return 0, DropEpoch
	}
	sentMS = nearestTime(nowMS, h.time)
	in := macInput(input, frame, int(h.relayN), sentMS)
	if !verify(frame, in, int(h.relayN), hop, &e.keys[epoch+1-e.epoch]) {
		return 0, DropBadMAC
	}
	if d := int64(nowMS - sentMS); d > freshnessMS || d < -freshnessMS {
		return 0, DropNotFresh
	}
	return sentMS, DropNone
}

// bucket is a token bucket; times in milliseconds.
type bucket struct {
	rate, burst, tokens float64
	lastMS              uint64
}

// take removes n tokens if they are there.
func (b *bucket) take(n int, nowMS uint64) bool {
	if nowMS > b.lastMS {
		if b.lastMS != 0 {
			b.tokens = min(b.burst, b.tokens+float64(nowMS-b.lastMS)*b.rate/1000)
		}
		b.lastMS = nowMS
	}
	if b.tokens < float64(n) {
		return false
	}
	b.tokens -= float64(n)
	return true
}
