package linkstate

import (
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	bodyVersion = 2
	bodyHeader  = 2 + 4*4
	// MaxItem bounds a sealed item, certificate and signature included, in bytes.
	MaxItem = 1190
	// MaxMessage bounds a message, in bytes: one gossip packet.
	MaxMessage = 1200
	// MaxSignature is the length of an ECDSA P-256 signature in ASN.1.
	MaxSignature = 72
)

// Kind of an item.
type Kind uint8

// The kinds; see the package comment.
const (
	Card  Kind = 1
	Full  Kind = 2
	Delta Kind = 3
)

// Version orders what a node says: a run of it, and a counter in that run. The zero value is older than everything.
type Version struct{ Epoch, Counter uint32 }

// Newer tells whether v was said after w.
func (v Version) Newer(w Version) bool {
	return v.Epoch > w.Epoch || v.Epoch == w.Epoch && v.Counter > w.Counter
}

// Head is what every item begins with.
type Head struct {
	Kind   Kind
	Origin uint32
	Version
	Base uint32 // Delta: counter of the full row that it changes
}

// Item is a sealed item. The slices point into Sealed, which is never written.
type Item struct {
	Head
	Sealed, Body, Content, Certificate, Signature []byte
}

// AppendHead begins a body.
func AppendHead(b []byte, h Head) []byte {
	b = append(b, bodyVersion, byte(h.Kind))
	for _, v := range [...]uint32{h.Origin, h.Epoch, h.Counter, h.Base} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

// Seal puts an item together; certificate is empty for rows. The result is checked as one from the network would be.
func Seal(body, certificate, signature []byte) (Item, error) {
	b := binary.BigEndian.AppendUint16(make([]byte, 0, 4+len(body)+len(certificate)+len(signature)), uint16(len(body)))
	b = append(b, body...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(certificate)))
	b = append(b, certificate...)
	return Open(append(b, signature...))
}

// ErrForm is wrapped by whatever is not an item.
var ErrForm = errors.New("malformed item")

// Open takes a sealed item apart. It checks the form alone: neither the signature nor the content. The bytes are kept.
func Open(sealed []byte) (Item, error) {
	if len(sealed) > MaxItem {
		return Item{}, fmt.Errorf("%w: %d bytes; at most %d", ErrForm, len(sealed), MaxItem)
	}
	c := cursor{b: sealed}
	it := Item{Sealed: sealed}
	it.Body = c.take(int(c.u16()))
	it.Certificate = c.take(int(c.u16()))
	it.Signature = c.b
	h := cursor{b: it.Body}
	version := h.u8()
	it.Head = Head{Kind: Kind(h.u8()), Origin: h.u32(), Version: Version{h.u32(), h.u32()}, Base: h.u32()}
	it.Content = h.b
	switch {
	case c.short || h.short:
		return Item{}, fmt.Errorf("%w: cut short", ErrForm)
	case version != bodyVersion:
		return Item{}, fmt.Errorf("%w: version %d; want %d", ErrForm, version, bodyVersion)
	case it.Kind < Card || it.Kind > Delta, it.Counter == 0, (it.Kind == Delta) != (it.Base > 0), it.Base >= it.Counter:
		return Item{}, fmt.Errorf("%w: head %+v", ErrForm, it.Head)
	case (it.Kind == Card) != (len(it.Certificate) > 0), len(it.Signature) == 0, len(it.Signature) > MaxSignature:
		return Item{}, fmt.Errorf("%w: certificate of %d bytes, signature of %d", ErrForm, len(it.Certificate), len(it.Signature))
	}
	return it, nil
}

// cursor reads integers; after the end everything is zero.
type cursor struct {
	b     []byte
	short bool
}

func (c *cursor) take(n int) []byte {
	if len(c.b) < n {
		c.short, c.b = true, nil
		return nil
	}
	out := c.b[:n]
	c.b = c.b[n:]
	return out
}

func (c *cursor) u8() uint8 {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) u16() uint16 {
	if b := c.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) u32() uint32 {
	if b := c.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (c *cursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.short, c.b = true, nil
		return 0
	}
	c.b = c.b[n:]
	return v
}
