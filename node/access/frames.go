package access

import (
	"sync"
	"time"
)

const (
	// frameWait is the longest that a picture's packets wait for its last one, from the first. The packets of a picture come
	// within a fraction of it, and nobody can show a part of one; a publisher that spreads a picture over more time than
	// that has it passed on as it comes.
	frameWait = time.Millisecond
	// framePackets is how many leave without the last one: those of a large picture need not wait for each other.
	framePackets = 16
)

// frame is the packets of a picture that are here while others of it are to come. With all of them each viewer costs one
// system call and each shard one wake-up for a picture; packet by packet, a shard that is idle would be woken for the first
// one and write it alone, to every viewer.
type frame struct {
	mu      sync.Mutex // guards all
	packets []*shared
	late    *time.Timer
}

// pass gives a packet to the shards, with those of its picture: all of them once the last one (the marker, RFC 3550 and the
// codecs' payload formats) is here, once there are many, after frameWait, or with a packet of sound, which never waits.
// Called with u.mu held for reading.
func (u *audience) pass(p *shared) {
	f := &u.frame
	f.mu.Lock()
	defer f.mu.Unlock()
	p.holds.Add(1)
	f.packets = append(f.packets, p)
	switch n := len(f.packets); {
	case !u.tracks[p.track].picture || p.header.Marker || n >= framePackets:
		if n > 1 {
			f.late.Stop()
		}
		u.flush()
	case n > 1:
	case f.late == nil:
		f.late = time.AfterFunc(frameWait, u.overdue)
	default:
		f.late.Reset(frameWait)
	}
}

// overdue passes on what waits. Called by the timer; one that was too late to be stopped sends the next picture's first packets
// ahead, which does no harm.
func (u *audience) overdue() {
	u.mu.RLock()
	defer u.mu.RUnlock()
	u.frame.mu.Lock()
	defer u.frame.mu.Unlock()
	u.flush()
}

// flush empties the frame into the shards' queues. Called with both locks held.
func (u *audience) flush() {
	f := &u.frame
	for _, s := range u.shards {
		for _, p := range f.packets {
			s.put(p)
		}
	}
	for i, p := range f.packets {
		p.release()
		f.packets[i] = nil
	}
	f.packets = f.packets[:0]
}
