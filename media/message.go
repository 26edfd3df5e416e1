package media

import (
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

// maxMessageBytes bounds a session message. The largest legal one, `subscribed` with MaxTracks full tracks,
// fits.
const maxMessageBytes = 32 << 10

// maxReasonBytes bounds the free text of a refusal or an end.
const maxReasonBytes = 128

// Types of session messages. The subscriber chooses ref, which names the subscription in both directions of
// one session; ids are chosen by the source and name its tracks among the packets that it sends.
const (
	msgSubscribe   = "subscribe"   // ref, app, channel, stream, trace subscriber → source
	msgSubscribed  = "subscribed"  // ref, ids, tracks, generation     source → subscriber
	msgRefused     = "refused"     // ref, reason                      source → subscriber
	msgUnsubscribe = "unsubscribe" // ref                              subscriber → source
	msgEnded       = "ended"       // ref, reason                      source → subscriber
	msgMoved       = "moved"       // ref                              source → subscriber
	msgKeyframe    = "keyframe"    // ref, track                       subscriber → source
)

// message is one session message, JSON, one per SendMessage.
type message struct {
	Type       string   `json:"type"`
	Ref        uint32   `json:"ref"`
	App        string   `json:"app,omitempty"`
	Channel    string   `json:"channel,omitempty"`
	Stream     string   `json:"stream,omitempty"`
	IDs        []uint16 `json:"ids,omitempty"`
	Tracks     []Track  `json:"tracks,omitempty"`
	Generation uint64   `json:"generation,omitempty"`
	Reason     string   `json:"reason,omitempty"`
	Track      int      `json:"track,omitempty"`
	Trace      string   `json:"trace,omitempty"` // W3C traceparent of the viewer's join, if it is recorded
}

func (m message) key() Key { return Key{m.App, m.Channel, m.Stream} }

// encode returns the message as JSON.
func (m message) encode() []byte { return encodeJSON(m) }

// decodeMessage parses and validates a message from a peer. Unknown fields are ignored, so that a newer node
// may say more.
func decodeMessage(b []byte) (message, error) {
	var m message
	if len(b) > maxMessageBytes {
		return m, fmt.Errorf("%w: message of %d bytes, at most %d are allowed", ErrInvalid, len(b), maxMessageBytes)
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("%w: message: %w", ErrInvalid, err)
	}
	return m, m.check()
}

func (m message) check() error {
	if len(m.Reason) > maxReasonBytes || !utf8.ValidString(m.Reason) {
		return fmt.Errorf("%w: reason of %d bytes", ErrInvalid, len(m.Reason))
	}
	switch m.Type {
	case msgSubscribe:
		return checkKey(m.key())
	case msgSubscribed:
		return m.checkSubscribed()
	case msgKeyframe:
		if m.Track < 0 || m.Track >= MaxTracks {
			return fmt.Errorf("%w: keyframe for track %d", ErrInvalid, m.Track)
		}
		return nil
	case msgRefused, msgUnsubscribe, msgEnded, msgMoved:
		return nil
	}
	return fmt.Errorf("%w: message type %.32q", ErrInvalid, m.Type)
}

func (m message) checkSubscribed() error {
	if err := checkTracks(m.Tracks); err != nil {
		return err
	}
	if len(m.IDs) != len(m.Tracks) {
		return fmt.Errorf("%w: %d ids for %d tracks", ErrInvalid, len(m.IDs), len(m.Tracks))
	}
	seen := map[uint16]bool{}
	for _, id := range m.IDs {
		if seen[id] {
			return fmt.Errorf("%w: id %d twice", ErrInvalid, id)
		}
		seen[id] = true
	}
	return nil
}
