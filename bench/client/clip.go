package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"
)

const (
	maxClip = 64 << 20 // bytes of a file
	clipMTU = 1200     // bytes of an RTP packet
)

// Clip is a Source of real media: VP8 from IVF and Opus from Ogg, looped for ever. A
// keyframe request rewinds the video to its last keyframe.
type Clip struct {
	video []ivfFrame
	audio [][]byte
}

// NewClip reads a clip; either reader may be nil. Each may hold at most 64 MiB.
func NewClip(ivf, ogg io.Reader) (*Clip, error) {
	c := new(Clip)
	var err1, err2 error
	if ivf != nil {
		if c.video, err1 = load(ivf, ivfFrames); err1 != nil {
			err1 = fmt.Errorf("read the video: %w", err1)
		}
	}
	if ogg != nil {
		if c.audio, err2 = load(ogg, oggPackets); err2 != nil {
			err2 = fmt.Errorf("read the audio: %w", err2)
		}
	}
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	if c.video == nil && c.audio == nil {
		return nil, errors.New("a clip needs video or audio")
	}
	return c, nil
}

func load[T any](r io.Reader, parse func([]byte) (T, error)) (T, error) {
	file, err := io.ReadAll(io.LimitReader(r, maxClip+1))
	if err == nil && len(file) > maxClip {
		err = errors.New("the file is too long")
	}
	if err != nil {
		var none T
		return none, err
	}
	return parse(file)
}

// Tracks implements Source.
func (c *Clip) Tracks() []Track {
	var out []Track
	if c.video != nil {
		out = append(out, Track{"video", vp8})
	}
	if c.audio != nil {
		out = append(out, Track{"audio", opus})
	}
	return out
}

// player is the state of one run; times count from its start.
type player struct {
	clip       *Clip
	send       func(int, *rtp.Packet) error
	payloader  codecs.VP8Payloader
	frame      int           // next frame
	videoAt    time.Duration // when it is due
	videoTS    uint32
	videoSeq   uint16
	packet     int // next audio packet
	audioAt    time.Duration
	audioTS    uint32
	audioSeq   uint16
	audioTrack int
}

// never is later than everything: a track that the clip does not have.
const never = time.Duration(1<<63 - 1)

// Run implements Source.
func (c *Clip) Run(ctx context.Context, keyframe <-chan struct{}, send func(int, *rtp.Packet) error) error {
	p := &player{clip: c, send: send, payloader: codecs.VP8Payloader{EnablePictureID: true}, audioTrack: 1}
	if c.video == nil {
		p.videoAt, p.audioTrack, keyframe = never, 0, nil
	}
	if c.audio == nil {
		p.audioAt = never
	}
	start := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(time.Until(start.Add(min(p.videoAt, p.audioAt))))
		select {
		case <-ctx.Done():
			return nil
		case <-keyframe:
			p.rewind()
			continue
		case <-timer.C:
		}
		step := p.playVideo
		if p.audioAt < p.videoAt {
			step = p.playAudio
		}
		if err := step(); err != nil {
			return err
		}
	}
}

// rewind goes back to the last keyframe; time goes on.
func (p *player) rewind() {
	for p.frame = max(p.frame-1, 0); !p.clip.video[p.frame].key(); {
		p.frame--
	}
}

// playVideo sends one frame and schedules the next.
func (p *player) playVideo() error {
	frames := p.clip.video
	parts := p.payloader.Payload(clipMTU-12, frames[p.frame].data)
	for i, part := range parts {
		h := rtp.Header{Version: 2, Marker: i == len(parts)-1, SequenceNumber: p.videoSeq, Timestamp: p.videoTS}
		p.videoSeq++
		if err := p.send(0, &rtp.Packet{Header: h, Payload: part}); err != nil {
			return err
		}
	}
	ticks := p.ticks()
	p.videoTS += uint32(ticks)
	p.videoAt += time.Duration(ticks) * time.Second / 90000
	p.frame = (p.frame + 1) % len(frames)
	return nil
}

// ticks until the next frame; after the last as long as after the first.
func (p *player) ticks() uint64 {
	frames, i := p.clip.video, p.frame
	if i == len(frames)-1 {
		i = 0
	}
	if d := frames[i+1].at - frames[i].at; d > 0 && d < 10*90000 {
		return d
	}
	return 3000 // a broken timestamp: go on at 30 frames a second
}

// playAudio sends one Opus packet and schedules the next.
func (p *player) playAudio() error {
	data := p.clip.audio[p.packet]
	h := rtp.Header{Version: 2, SequenceNumber: p.audioSeq, Timestamp: p.audioTS, Marker: p.audioSeq == 0}
	if err := p.send(p.audioTrack, &rtp.Packet{Header: h, Payload: data}); err != nil {
		return err
	}
	ticks := max(opusSamples(data), 120)
	p.audioSeq++
	p.audioTS += ticks
	p.audioAt += time.Duration(ticks) * time.Second / 48000
	p.packet = (p.packet + 1) % len(p.clip.audio)
	return nil
}
