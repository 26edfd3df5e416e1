package client

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/pion/rtp"
)

// Synthetic yields packets of fixed size and shape. Payloads are no real media; each
// begins with a stamp that View's packets can be read with: see Stamp.
type Synthetic struct {
	Size    int     // payload bytes of a video packet, at least MinStamp; 0: 1,000
	PerSec  float64 // video packets per second; 0: no video
	Burst   int     // packets sent at once, like a frame; 0: 1
	AudioHz float64 // audio packets per second, of 80 bytes; 0: no audio

	// Count ends the source after so many video packets (audio without video); 0: never.
	Count uint64
}

const (
	stampMagic = 0x7e51_7a3d
	// MinStamp is the shortest payload that carries a stamp, in bytes: a byte that
	// keeps VP8 readers content, magic, sequence, send time.
	MinStamp = 1 + 4 + 8 + 8
)

// Stamp reads what a synthetic payload carries: the packet's number within its track
// and when it was sent, by the sender's clock.
func Stamp(payload []byte) (number uint64, sent time.Time, ok bool) {
	if len(payload) < MinStamp || binary.BigEndian.Uint32(payload[1:]) != stampMagic {
		return 0, time.Time{}, false
	}
	return binary.BigEndian.Uint64(payload[5:]), time.Unix(0, int64(binary.BigEndian.Uint64(payload[13:]))), true
}

// Tracks implements Source.
func (s Synthetic) Tracks() []Track {
	var out []Track
	if s.PerSec > 0 {
		out = append(out, Track{"video", vp8})
	}
	if s.AudioHz > 0 {
		out = append(out, Track{"audio", opus})
	}
	return out
}

// flow is one track's state within Run.
type flow struct {
	track   int
	size    int
	burst   int
	every   time.Duration // between bursts
	ticks   uint32        // clock ticks between bursts
	next    time.Duration // of the next burst, from the start
	number  uint64
	seq     uint16
	ts      uint32
	payload []byte
}

// Run implements Source. Bursts keep to a schedule from the start: a late one is not
// made up for by shifting those that follow.
func (s Synthetic) Run(ctx context.Context, _ <-chan struct{}, send func(int, *rtp.Packet) error) error {
	flows, err := s.flows()
	if err != nil {
		return err
	}
	start := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		f := flows[0]
		for _, other := range flows[1:] {
			if other.next < f.next {
				f = other
			}
		}
		timer.Reset(time.Until(start.Add(f.next)))
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		if err := f.fire(send); err != nil {
			return err
		}
		if s.Count > 0 && flows[0].number >= s.Count {
			return nil
		}
	}
}

func (s Synthetic) flows() ([]*flow, error) {
	size, burst := s.Size, max(s.Burst, 1)
	if size == 0 {
		size = 1000
	}
	if size < MinStamp || size > 1488 {
		return nil, errors.New("synthetic source: Size is not between MinStamp and 1488")
	}
	var out []*flow
	if s.PerSec > 0 {
		every := time.Duration(float64(burst) / s.PerSec * float64(time.Second))
		out = append(out, &flow{size: size, burst: burst, every: every, ticks: uint32(every.Seconds() * 90000), payload: make([]byte, size)})
	}
	if s.AudioHz > 0 {
		every := time.Duration(float64(time.Second) / s.AudioHz)
		out = append(out, &flow{track: len(out), size: 80, burst: 1, every: every, ticks: uint32(every.Seconds() * 48000), payload: make([]byte, 80)})
	}
	if len(out) == 0 {
		return nil, errors.New("synthetic source: neither video nor audio")
	}
	return out, nil
}

// fire sends one burst; its last packet has the marker, as a frame's has.
func (f *flow) fire(send func(int, *rtp.Packet) error) error {
	for i := range f.burst {
		b := f.payload
		b[0] = 0x10 // VP8 descriptor: start of a partition
		binary.BigEndian.PutUint32(b[1:], stampMagic)
		binary.BigEndian.PutUint64(b[5:], f.number)
		binary.BigEndian.PutUint64(b[13:], uint64(time.Now().UnixNano()))
		p := &rtp.Packet{Header: rtp.Header{Version: 2, Marker: i == f.burst-1, SequenceNumber: f.seq, Timestamp: f.ts}, Payload: b}
		if err := send(f.track, p); err != nil {
			return err
		}
		f.seq++
		f.number++
	}
	f.ts += f.ticks
	f.next += f.every
	return nil
}
