package access

import (
	"encoding/binary"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"

	"github.com/ternmesh/tern/media"
)

const (
	// shardQueue is how many packets wait for the viewers of one shard: a second of
	// 5 Mbit/s. When it is full the newest is dropped for all of them, and counted.
	shardQueue = 512
	// keptPackets is how many packets of a track are kept for those who miss one: two to
	// three seconds of video. A power of two.
	keptPackets = 512
	// shardViewers is how many viewers a shard has before another one is begun, up to one
	// for each processor.
	shardViewers = 16
	// burstPackets bounds what a shard takes together.
	burstPackets = 64
)

// shared is one packet of a stream, kept once for all viewers. It is written before it is
// shared and read-only after; the last who lets go puts it back.
type shared struct {
	track  int
	key    bool       // begins a keyframe; known of layers alone
	header rtp.Header // without extensions: their numbers belong to the publisher's connection
	size   int
	data   [maxPacket]byte // the payload
	holds  atomic.Int32
}

var sharedPackets = sync.Pool{New: func() any { return new(shared) }}

func (p *shared) payload() []byte { return p.data[:p.size] }

func (p *shared) release() {
	if p.holds.Add(-1) == 0 {
		sharedPackets.Put(p)
	}
}

// audience is the viewers of one stream at this node. Each of them is a sink of media's;
// the first who brings a packet brings it for all. Its packets are copied once, kept for
// repair, and written by shards: one goroutine for many viewers, so that a frame costs
// no wake-up for each of them, and up to one goroutine per processor.
type audience struct {
	a       *Access
	key     media.Key
	viewers int // guarded by Access.mu

	mu     sync.RWMutex // guards shards; a shard's viewers are its own
	shards []*shard

	tracks    []audienceTrack // fixed
	simulcast bool            // some tracks are layers of one picture; fixed

	frame frame         // of video, while it is not complete
	last  atomic.Uint64 // name of the packet that came last, and is kept

	rates struct {
		sync.Mutex
		meter
	}
}

// audienceTrack remembers what came last.
type audienceTrack struct {
	layer   string        // of a simulcast layer the codec, else ""; fixed
	picture bool          // video: a marker ends each picture; fixed
	bytes   atomic.Uint64 // of RTP, to measure its rate

	rate uint32 // of its clock; fixed

	mu    sync.Mutex
	twins twins                // while the publisher moves, it comes from two nodes
	kept  [keptPackets]*shared // by sequence number
}

// attend adds a viewer to its stream's audience, which begins with its first and ends
// with its last.
func (a *Access) attend(v *viewer) {
	key := v.sub.Key()
	a.mu.Lock()
	defer a.mu.Unlock()
	u := a.audiences[key]
	if u == nil {
		u = newAudience(a, key, v.sub.Tracks())
		a.audiences[key] = u
	}
	u.viewers++
	v.audience.Store(u)
}

func newAudience(a *Access, key media.Key, tracks []media.Track) *audience {
	u := &audience{a: a, key: key, tracks: make([]audienceTrack, len(tracks))}
	for i, t := range tracks {
		u.tracks[i].picture, u.tracks[i].rate = t.Kind == media.KindVideo, t.ClockRate
		if t.RID != "" {
			u.tracks[i].layer, u.simulcast = t.Mime, true
		}
	}
	return u
}

// measured are the bit rates of the tracks at now.
func (u *audience) measured(now time.Time) []float64 {
	bytes := make([]uint64, len(u.tracks))
	for i := range u.tracks {
		bytes[i] = u.tracks[i].bytes.Load()
	}
	u.rates.Lock()
	defer u.rates.Unlock()
	return slices.Clone(u.rates.measure(now, bytes))
}

// quit takes a viewer out.
func (a *Access) quit(v *viewer) {
	u := v.audience.Swap(nil)
	if u == nil {
		return
	}
	u.stand(v)
	a.mu.Lock()
	u.viewers--
	last := u.viewers == 0
	if last && a.audiences[u.key] == u {
		delete(a.audiences, u.key)
	}
	a.mu.Unlock()
	if last {
		u.close()
	}
}

// write takes a packet from media, by whichever viewer's subscription it comes first. A
// sequence number that is kept already is a copy: the same packet by another
// subscription, or one that the publisher sent twice.
func (u *audience) write(track int, data []byte) {
	if track >= len(u.tracks) || len(data) < 12 {
		return
	}
	ssrc, known := u.tracks[track].has(data)
	if known {
		return
	}
	p := sharedPackets.Get().(*shared)
	if !p.read(track, data, u.tracks[track].layer) {
		sharedPackets.Put(p)
		u.a.counts.write.Add(1)
		return
	}
	p.header.SSRC = ssrc
	p.holds.Store(1) // of the memory; queues take their own
	u.mu.RLock()
	defer u.mu.RUnlock()
	if !u.tracks[track].keep(p) {
		p.release()
		return
	}
	u.last.Store(name(track, data))
	u.tracks[track].bytes.Add(uint64(len(data)))
	u.pass(p)
}

// known says whether a packet is the one that came last: media brings it again for every viewer. No lock: for each of a
// thousand viewers this is all there is to do.
func (u *audience) known(track int, data []byte) bool {
	return len(data) >= 12 && u.last.Load() == name(track, data)
}

// name mixes track, sequence number, timestamp and source of a packet: two that follow each other have the same one by
// chance once in 2^64.
func name(track int, data []byte) uint64 {
	const odd = 0x9e3779b97f4a7c15 // spreads every bit upwards, and loses none
	return binary.BigEndian.Uint64(data[4:])*odd ^ uint64(track+1)<<16 ^ uint64(binary.BigEndian.Uint16(data[2:]))
}

// read copies what viewers get of a packet; layer is the codec of a simulcast layer.
func (p *shared) read(track int, data []byte, layer string) bool {
	var in rtp.Packet
	if in.Unmarshal(data) != nil {
		return false
	}
	p.track = track
	p.header = rtp.Header{Version: 2, Marker: in.Marker, SequenceNumber: in.SequenceNumber, Timestamp: in.Timestamp, SSRC: in.SSRC}
	p.size = copy(p.data[:], in.Payload)
	p.key = layer != "" && startsKeyframe(layer, in.Payload)
	return true
}

// has says under which SSRC a packet counts and whether it is kept, by its header's bytes.
func (t *audienceTrack) has(data []byte) (ssrc uint32, known bool) {
	seq, ts := binary.BigEndian.Uint16(data[2:]), binary.BigEndian.Uint32(data[4:])
	t.mu.Lock()
	defer t.mu.Unlock()
	ssrc = t.twins.source(binary.BigEndian.Uint32(data[8:]), seq, ts, t.rate, nanoseconds)
	p := t.kept[seq%keptPackets]
	return ssrc, p != nil && p.header.SequenceNumber == seq && p.header.SSRC == ssrc
}

func nanoseconds() int64 { return time.Now().UnixNano() }

// keep stores a packet in the place of an older one; false if it is there already.
func (t *audienceTrack) keep(p *shared) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := &t.kept[p.header.SequenceNumber%keptPackets]
	if old := *at; old != nil {
		if old.header.SequenceNumber == p.header.SequenceNumber && old.header.SSRC == p.header.SSRC {
			return false
		}
		old.release()
	}
	*at = p
	return true
}

// find returns a kept packet with a hold on it, nil if it is gone.
func (t *audienceTrack) find(ssrc uint32, seq uint16) *shared {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.kept[seq%keptPackets]
	if p == nil || p.header.SequenceNumber != seq || p.header.SSRC != ssrc {
		return nil
	}
	p.holds.Add(1)
	return p
}

// sit gives a connected viewer a place in the emptiest shard; a new one is begun when the
// others have many and there are processors left.
func (u *audience) sit(v *viewer) {
	s := u.emptiest()
	if s == nil {
		return // the node is stopping
	}
	s.add(v)
	if v.audience.Load() == nil { // its session ended meanwhile
		s.remove(v)
	}
}

func (u *audience) emptiest() *shard {
	u.mu.Lock()
	defer u.mu.Unlock()
	var best *shard
	for _, s := range u.shards {
		if best == nil || s.seated.Load() < best.seated.Load() {
			best = s
		}
	}
	if best == nil || (best.seated.Load() >= shardViewers && len(u.shards) < runtime.GOMAXPROCS(0)) {
		best = newShard(u)
		if !u.a.spawn(best.run) {
			return nil
		}
		u.shards = append(u.shards, best)
	}
	return best
}

// stand takes a viewer's place away.
func (u *audience) stand(v *viewer) {
	u.mu.RLock()
	shards := slices.Clone(u.shards)
	u.mu.RUnlock()
	for _, s := range shards { // may wait for a burst, and media must not wait for that
		s.remove(v)
	}
}

// close ends the shards and lets go of what is kept.
func (u *audience) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.frame.mu.Lock()
	u.flush()
	u.frame.mu.Unlock()
	for _, s := range u.shards {
		close(s.done)
	}
	u.shards = nil
	for i := range u.tracks {
		t := &u.tracks[i]
		t.mu.Lock()
		for j, p := range t.kept {
			if p != nil {
				p.release()
				t.kept[j] = nil
			}
		}
		t.mu.Unlock()
	}
}

// shard writes to some viewers of a stream: a bounded queue, and one goroutine.
type shard struct {
	u     *audience
	queue chan *shared
	done  chan struct{} // closed when the audience ends

	seated atomic.Int64 // len(seats), for those who must not wait

	mu    sync.Mutex // guards the rest; held during a burst
	seats []*viewer
	box   outbox
	burst []*shared
}

func newShard(u *audience) *shard {
	s := &shard{u: u, queue: make(chan *shared, shardQueue), done: make(chan struct{})}
	s.box.port = u.a.peers.conn
	return s
}

func (s *shard) add(v *viewer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v.shard.Store(s)
	s.seats = append(s.seats, v)
	s.seated.Store(int64(len(s.seats)))
}

func (s *shard) remove(v *viewer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seats = slices.DeleteFunc(s.seats, func(o *viewer) bool { return o == v })
	s.seated.Store(int64(len(s.seats)))
}

// put queues a packet; it never waits.
func (s *shard) put(p *shared) {
	p.holds.Add(1)
	select {
	case s.queue <- p:
	default:
		p.release()
		s.u.a.counts.queue.Add(uint64(s.seated.Load()))
	}
}

// run is the shard's goroutine. The packets of a picture reach the queue one after the
// other (frames.go), so it steps aside once before it takes them: they then leave together.
func (s *shard) run() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	layers := time.NewTicker(layersTick)
	defer layers.Stop()
	if !s.u.simulcast {
		layers.Stop()
	}
	for {
		select {
		case <-s.done:
			return
		case p := <-s.queue:
			runtime.Gosched()
			s.write(p)
		case <-tick.C:
			s.report()
		case <-layers.C:
			s.choose(time.Now())
		}
	}
}

// choose looks for the layer that each viewer's last mile carries.
func (s *shard) choose(now time.Time) {
	rates := s.u.measured(now)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.seats {
		v.choose(now, rates)
	}
}

// write sends a packet and those that wait behind it, viewer by viewer.
func (s *shard) write(p *shared) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.burst = append(s.burst[:0], p)
	for more := min(len(s.queue), burstPackets-1); more > 0; more-- {
		s.burst = append(s.burst, <-s.queue)
	}
	now := time.Now()
	for _, v := range s.seats {
		v.send(&s.box, s.burst, now, &s.u.a.counts)
	}
	for i, p := range s.burst {
		p.release()
		s.burst[i] = nil
	}
}

// report sends every viewer its sender reports, and notes what its last mile carries.
func (s *shard) report() {
	s.mu.Lock()
	seats, now := slices.Clone(s.seats), time.Now()
	all := make([][]rtcp.Packet, len(seats))
	for i, v := range seats {
		all[i] = v.reports(now)
	}
	s.mu.Unlock()
	for i, v := range seats { // the library encrypts and writes: not under the lock
		if len(all[i]) > 0 {
			_ = v.s.pc.WriteRTCP(all[i]) // a lost report is not missed
		}
	}
}
