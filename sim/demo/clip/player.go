package clip

import (
	"time"

	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"
)

// Track kinds, as WebRTC names them.
const (
	Audio = "audio"
	Video = "video"
)

const (
	// videoMTU keeps video packets small, so that the stream has many.
	videoMTU = 540
	audioMTU = 1200
	// keyframeGap is the least time between two jumps to a key frame.
	keyframeGap = 300 * time.Millisecond
)

// Packet is one RTP packet of the loop. Payload type and SSRC are for the sender's track to set.
type Packet struct {
	Kind string
	RTP  *rtp.Packet
}

// Player plays the loop for ever.
type Player struct {
	clip   *Clip
	video  rtp.Packetizer
	audio  rtp.Packetizer
	frame  int // next picture of the loop
	sound  int // next sound of the loop
	videos int64
	audios int64
	jumped time.Duration // when a key frame was last asked for and given
}

// NewPlayer starts at the beginning. The first RTP sequence numbers are random, as RFC 3550 wants.
func NewPlayer(c *Clip) *Player {
	return &Player{
		clip:   c,
		video:  rtp.NewPacketizer(videoMTU, 0, 0, &codecs.VP8Payloader{EnablePictureID: true}, rtp.NewRandomSequencer(), videoClock),
		audio:  rtp.NewPacketizer(audioMTU, 0, 0, &codecs.OpusPayloader{}, rtp.NewRandomSequencer(), audioClock),
		jumped: -keyframeGap,
	}
}

// Next is when the next frame is due, counted from the start.
func (p *Player) Next() time.Duration {
	return min(time.Duration(p.videos)*p.clip.videoFrame, time.Duration(p.audios)*audioFrame)
}

// Due appends the packets of all frames due at the elapsed time.
func (p *Player) Due(elapsed time.Duration, out []Packet) []Packet {
	for time.Duration(p.audios)*audioFrame <= elapsed {
		for _, packet := range p.audio.Packetize(p.clip.audio[p.sound], ticks(audioClock, audioFrame)) {
			out = append(out, Packet{Audio, packet})
		}
		p.sound = (p.sound + 1) % len(p.clip.audio)
		p.audios++
	}
	for time.Duration(p.videos)*p.clip.videoFrame <= elapsed {
		for _, packet := range p.video.Packetize(p.clip.video[p.frame], ticks(videoClock, p.clip.videoFrame)) {
			out = append(out, Packet{Video, packet})
		}
		p.frame = (p.frame + 1) % len(p.clip.video)
		p.videos++
	}
	return out
}

// ticks is a duration in units of an RTP clock, rounded: a thirtieth of a second is not a whole number of nanoseconds.
func ticks(clock time.Duration, d time.Duration) uint32 {
	return uint32((clock*d + time.Second/2) / time.Second)
}

// Keyframe answers a viewer's request: the picture jumps ahead to the next key frame of the loop, since what is encoded
// already cannot be encoded anew. Requests close to each other are one.
func (p *Player) Keyframe(elapsed time.Duration) {
	if elapsed-p.jumped < keyframeGap {
		return
	}
	p.jumped = elapsed
	for _, key := range p.clip.keys {
		if key >= p.frame {
			p.frame = key
			return
		}
	}
	p.frame = 0
}
