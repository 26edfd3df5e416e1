package media

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// MaxDirectoryBytes bounds a directory request and an answer. A transport under Call must carry this much.
const MaxDirectoryBytes = 256 << 10

// maxBatch is how many writes of a kind travel in one request; the writer also packs by bytes.
const maxBatch = 64

// withdrawal ends a registration of the sender.
type withdrawal struct {
	Key
	Generation uint64 `json:"generation"`
}

// question asks for the registrations of one channel.
type question struct {
	App     string `json:"app"`
	Channel string `json:"channel"`
}

// dirRequest is what a node asks a directory node: writes, and at most one read.
type dirRequest struct {
	Put  []Registration `json:"put,omitempty"`
	Drop []withdrawal   `json:"drop,omitempty"`
	Get  *question      `json:"get,omitempty"`
}

// dirAnswer is the answer. Error is set when nothing of the request was done.
type dirAnswer struct {
	Error   string         `json:"error,omitempty"`
	Refused []string       `json:"refused,omitempty"` // one reason per refused write
	Entries []Registration `json:"entries,omitempty"` // longest live first
	Cut     bool           `json:"cut,omitempty"`     // more entries than an answer can hold
}

// encodeJSON returns v as JSON; v is one of this package's own wire types, whose fields cannot fail. HTML is
// not escaped: the readers are nodes, and escapes would make the size bounds a lie.
func encodeJSON(v any) []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic("media: encode: " + err.Error())
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte{'\n'})
}

// encode returns the answer within MaxDirectoryBytes, leaving out the youngest entries if it must. It encodes no
// entry that will not fit, so a channel full of large registrations costs no more than an answer.
func (a dirAnswer) encode() []byte {
	const frame = 16 << 10 // for everything but entries: at most 2 maxBatch short refusals
	size := frame
	for i, r := range a.Entries {
		if size += len(encodeJSON(r)) + 1; size > MaxDirectoryBytes {
			a.Entries, a.Cut = a.Entries[:i], true
			break
		}
	}
	return encodeJSON(a)
}

// decodeRequest parses and validates a peer's request. Each write is checked on its own by the table's shell,
// so that one bad entry does not spoil a batch; here only the shape is.
func decodeRequest(b []byte) (dirRequest, error) {
	var r dirRequest
	if len(b) > MaxDirectoryBytes {
		return r, fmt.Errorf("%w: directory request of %d bytes", ErrInvalid, len(b))
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("%w: directory request: %w", ErrInvalid, err)
	}
	if len(r.Put) > maxBatch || len(r.Drop) > maxBatch {
		return r, fmt.Errorf("%w: %d puts and %d drops, at most %d each", ErrInvalid, len(r.Put), len(r.Drop), maxBatch)
	}
	if r.Get != nil {
		if err := checkRoom(r.Get.App, r.Get.Channel); err != nil {
			return r, err
		}
	}
	return r, nil
}

// decodeAnswer parses a directory node's answer to a question. Entries that are malformed or belong to another
// channel are left out and counted in bad.
func decodeAnswer(b []byte, rm room) (a dirAnswer, bad int, err error) {
	if len(b) > MaxDirectoryBytes {
		return a, 0, fmt.Errorf("%w: directory answer of %d bytes", ErrInvalid, len(b))
	}
	if err := json.Unmarshal(b, &a); err != nil {
		return a, 0, fmt.Errorf("%w: directory answer: %w", ErrInvalid, err)
	}
	kept := a.Entries[:0]
	for _, r := range a.Entries {
		if r.room() != rm || r.check() != nil {
			bad++
			continue
		}
		kept = append(kept, r)
	}
	a.Entries = kept
	return a, bad, nil
}
