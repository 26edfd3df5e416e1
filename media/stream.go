package media

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/ternmesh/tern/media/braid"
)

// Limits of what this package accepts from clients and peers. They bound every message and every table
// row, so that the largest legal one is known.
const (
	MaxTracks      = 16   // tracks of one stream; a track set fits a 32-bit mask
	MaxNameBytes   = 128  // app, channel, stream, node and track ids
	MaxFmtpBytes   = 512  // format parameters of one track
	MaxPacketBytes = 1500 // one RTP packet
	MaxDepth       = 2    // hops between a stream's ingress and a node that offers it
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrNotLive: the directory answered and nobody has the stream.
	ErrNotLive = errors.New("stream is not live")
	// ErrUnavailable: too few directory nodes answered, or no holder of the stream did. Worth a retry.
	ErrUnavailable = errors.New("stream is not reachable now")
	// ErrNotAllowed: the policy does not know the app, or keeps this node outside its fence.
	ErrNotAllowed = errors.New("app is not allowed on this node")
	// ErrLimit: a bound of this node is reached.
	ErrLimit = errors.New("limit reached")
	// ErrInvalid: the caller's key, tracks or sink are malformed.
	ErrInvalid = errors.New("invalid")
	// ErrClosed: the hub has stopped.
	ErrClosed = errors.New("media is stopped")
)

// Key names a stream: the tenant, the room, and the published stream in it. An empty Stream means "the one
// that has been live longest" where a subscriber names it, and is invalid elsewhere.
type Key struct {
	App     string `json:"app"`
	Channel string `json:"channel"`
	Stream  string `json:"stream"`
}

// String returns app/channel/stream, for logs.
func (k Key) String() string { return k.App + "/" + k.Channel + "/" + k.Stream }

// room is the part of a key that directory nodes are chosen by.
type room struct{ app, channel string }

func (k Key) room() room { return room{k.App, k.Channel} }

// Kinds of track.
const (
	KindAudio = "audio"
	KindVideo = "video"
)

// Track describes one RTP flow of a stream. The order of a stream's tracks is the meaning of every track
// index in this package.
type Track struct {
	ID        string `json:"id,omitempty"`
	Kind      string `json:"kind"`                 // KindAudio or KindVideo
	Mime      string `json:"mime"`                 // video/VP8, audio/opus, ...
	ClockRate uint32 `json:"clock_rate,omitempty"` // ticks per second
	Channels  uint16 `json:"channels,omitempty"`   // audio channels, 0 for video
	Fmtp      string `json:"fmtp,omitempty"`       // format parameters as in SDP
	RID       string `json:"rid,omitempty"`        // simulcast encoding
}

// class is the track's priority on a session.
func (t Track) class() braid.Class {
	if t.Kind == KindAudio {
		return braid.Audio
	}
	return braid.Video
}

// sameMedia says whether a viewer negotiated for t can be fed by other: same kind, codec, clock and
// encoding. Format parameters may differ in ways that do not matter, so they are not compared.
func (t Track) sameMedia(other Track) bool {
	return t.Kind == other.Kind && strings.EqualFold(t.Mime, other.Mime) &&
		t.ClockRate == other.ClockRate && t.Channels == other.Channels && t.RID == other.RID
}

// videoMask has a bit for every video track.
func videoMask(tracks []Track) uint32 {
	var mask uint32
	for i, t := range tracks {
		if t.Kind == KindVideo {
			mask |= 1 << i
		}
	}
	return mask
}

// matchTracks maps the tracks of a new source to those that viewers negotiated: remap[i] is the viewers'
// index for source track i, -1 for a track that they do not know. ok is false when a viewers' track has no
// counterpart. Each source track serves one viewers' track, in order, so two of a kind stay two.
func matchTracks(viewers, source []Track) (remap []int8, ok bool) {
	remap = make([]int8, len(source))
	for i := range remap {
		remap[i] = -1
	}
	for v, want := range viewers {
		found := false
		for s, have := range source {
			if remap[s] < 0 && want.sameMedia(have) {
				remap[s], found = int8(v), true
				break
			}
		}
		if !found {
			return nil, false
		}
	}
	return remap, true
}

// StreamInfo is one live stream of a channel. It holds no user identity.
type StreamInfo struct {
	Stream      string  `json:"stream"`
	Origin      string  `json:"origin"`        // ingress node
	Generation  uint64  `json:"generation"`    // grows with every takeover
	SinceUnixMS int64   `json:"since_unix_ms"` // start of the stream, Unix milliseconds
	Tracks      []Track `json:"tracks"`
}

// checkName validates an id that travels in messages: 1 to MaxNameBytes of printable UTF-8.
func checkName(what, s string) error {
	switch {
	case s == "":
		return fmt.Errorf("%w: %s is empty", ErrInvalid, what)
	case len(s) > MaxNameBytes:
		return fmt.Errorf("%w: %s has %d bytes, at most %d are allowed", ErrInvalid, what, len(s), MaxNameBytes)
	case !printable(s):
		return fmt.Errorf("%w: %s holds control characters or is not UTF-8", ErrInvalid, what)
	}
	return nil
}

// printable says whether s is UTF-8 without control characters: safe in logs, and short in JSON.
func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// checkRoom validates app and channel.
func checkRoom(app, channel string) error {
	return errors.Join(checkName("app", app), checkName("channel", channel))
}

// checkKey validates a full key.
func checkKey(k Key) error {
	return errors.Join(checkRoom(k.App, k.Channel), checkName("stream", k.Stream))
}

// checkTracks validates a track list: 1 to MaxTracks, known kinds, bounded strings.
func checkTracks(tracks []Track) error {
	if len(tracks) == 0 || len(tracks) > MaxTracks {
		return fmt.Errorf("%w: %d tracks, 1 to %d are allowed", ErrInvalid, len(tracks), MaxTracks)
	}
	for i, t := range tracks {
		if t.Kind != KindAudio && t.Kind != KindVideo {
			return fmt.Errorf("%w: track %d has kind %q, want audio or video", ErrInvalid, i, t.Kind)
		}
		if err := checkName("mime", t.Mime); err != nil {
			return fmt.Errorf("track %d: %w", i, err)
		}
		if len(t.ID) > MaxNameBytes || len(t.RID) > MaxNameBytes || len(t.Fmtp) > MaxFmtpBytes {
			return fmt.Errorf("%w: track %d has an oversized field", ErrInvalid, i)
		}
		if !printable(t.ID) || !printable(t.RID) || !printable(t.Fmtp) {
			return fmt.Errorf("%w: track %d holds control characters or is not UTF-8", ErrInvalid, i)
		}
	}
	return nil
}

// sane turns a load figure into something that compares and encodes: finite and not negative.
func sane(load float64) float64 {
	if math.IsNaN(load) || math.IsInf(load, 0) || load < 0 {
		return 0
	}
	return load
}
