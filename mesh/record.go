package mesh

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"
	"unicode/utf8"

	"github.com/ternmesh/tern/mesh/identity"
)

const (
	recordVersion = 1
	recordContext = "health record"
	// maxRecord is a signed record with its certificate, so that it fits a gossip packet.
	maxRecord = 1200

	maxURL, maxState     = 200, 16
	maxRisks, maxRisk    = 4, 40
	maxLinkEntries       = 64
	maxDelay             = time.Minute // of a link; more is an error of measurement
	delayUnit            = 10 * time.Microsecond
	maxLoad, maxSessions = 1000, 10_000_000
)

// order tells a node's newer record from an older one: a run of the node, and a counter in it.
type order struct {
	epoch   uint32
	counter uint64
}

func (o order) newer(than order) bool {
	return o.epoch > than.epoch || o.epoch == than.epoch && o.counter > than.counter
}

// linkEntry is one node's view of its link to and from another, quantised as it travels.
type linkEntry struct {
	to              uint32
	latency, jitter time.Duration // one-way; multiples of delayUnit
	lossOut, lossIn uint8         // see quantLoss; out is towards the other
	down            bool
}

// record is what a node gossips about itself.
type record struct {
	order
	node   string
	health Health
	links  []linkEntry
}

// quantLoss maps a share of 0-1 to 0-255 on a square scale, rounding up: fine near zero, where it matters.
func quantLoss(p float64) uint8 {
	if !(p > 0) {
		return 0
	}
	return uint8(min(math.Ceil(math.Sqrt(min(p, 1))*255), 255))
}

func lossOf(q uint8) float64 { return float64(q) / 255 * float64(q) / 255 }

// encode appends the body of a record. Fields that are too long are cut: they are the node's own.
func (r *record) encode(b []byte) []byte {
	h := &r.health
	b = append(b, recordVersion)
	b = binary.BigEndian.AppendUint32(b, r.epoch)
	b = binary.BigEndian.AppendUint64(b, r.counter)
	b = appendText(b, r.node, 63)
	b = binary.BigEndian.AppendUint32(b, h.Incarnation)
	addr := h.Mesh.Addr().Unmap().AsSlice()
	b = append(b, byte(len(addr)))
	b = append(b, addr...)
	b = binary.BigEndian.AppendUint16(b, h.Mesh.Port())
	b = appendText(b, h.AccessURL, maxURL)
	b = appendText(b, h.State, maxState)
	b = binary.BigEndian.AppendUint32(b, math.Float32bits(float32(h.Load)))
	b = binary.AppendUvarint(b, h.PolicyVersion)
	b = append(b, bit(h.Voter))
	b = binary.AppendUvarint(b, uint64(max(h.Sessions, 0)))
	risks := h.Risks[:min(len(h.Risks), maxRisks)]
	b = append(b, byte(len(risks)))
	for _, risk := range risks {
		b = appendText(b, risk, maxRisk)
	}
	b = append(b, byte(len(r.links)))
	for _, l := range r.links {
		b = binary.BigEndian.AppendUint32(b, l.to)
		b = binary.AppendUvarint(b, uint64(l.latency/delayUnit))
		b = binary.AppendUvarint(b, uint64(l.jitter/delayUnit))
		b = append(b, l.lossOut, l.lossIn, bit(l.down))
	}
	return b
}

func bit(v bool) byte {
	if v {
		return 1
	}
	return 0
}

func appendText(b []byte, s string, limit int) []byte {
	s = s[:min(len(s), limit)]
	return append(append(b, byte(len(s))), s...)
}

// errAbsurd is wrapped by numbers that no measurement gives; the other errors of decode are about the form.
var errAbsurd = errors.New("absurd value")

// cursor reads a body; after an error everything is zero.
type cursor struct {
	b   []byte
	err error
}

func (c *cursor) take(n int) []byte {
	if c.err != nil || len(c.b) < n {
		if c.err == nil {
			c.err = errors.New("record is cut short")
		}
		return make([]byte, n)
	}
	out := c.b[:n]
	c.b = c.b[n:]
	return out
}

func (c *cursor) uvarint(what string, limit uint64) uint64 {
	v, n := binary.Uvarint(c.b)
	if c.err == nil && n <= 0 {
		c.err = fmt.Errorf("%s is cut short or too long", what)
	}
	if c.err != nil {
		return 0
	}
	c.b = c.b[n:]
	c.check(v <= limit, what)
	return v
}

func (c *cursor) text(what string, limit int) string {
	b := c.take(int(c.take(1)[0]))
	c.check(len(b) <= limit && utf8.Valid(b), what)
	for _, x := range b {
		c.check(x >= ' ' && x != 0x7f, what) // it ends up in logs and terminals
	}
	return string(b)
}

func (c *cursor) flag(what string) bool {
	v := c.take(1)[0]
	c.check(v <= 1, what)
	return v == 1
}

func (c *cursor) check(ok bool, what string) {
	if !ok && c.err == nil {
		c.err = fmt.Errorf("%w: %s", errAbsurd, what)
	}
}

// decodeRecord is the inverse of encode. It refuses whatever encode would not write of a sane node.
func decodeRecord(b []byte) (record, error) {
	c := &cursor{b: b}
	if v := c.take(1)[0]; c.err == nil && v != recordVersion {
		return record{}, fmt.Errorf("record version %d; want %d", v, recordVersion)
	}
	var r record
	r.epoch = binary.BigEndian.Uint32(c.take(4))
	r.counter = binary.BigEndian.Uint64(c.take(8))
	r.node = c.text("node name", 63)
	c.check(c.err != nil || identity.CheckName("node name", r.node) == nil, "node name")
	r.health = decodeHealth(c)
	links := int(c.take(1)[0])
	c.check(links <= maxLinkEntries, "number of links")
	for range links {
		if c.err != nil {
			break
		}
		r.links = append(r.links, decodeLink(c))
	}
	if c.err == nil && len(c.b) > 0 {
		c.err = errors.New("record has bytes after its end")
	}
	if c.err != nil {
		return record{}, c.err
	}
	return r, nil
}

func decodeHealth(c *cursor) (h Health) {
	h.Incarnation = binary.BigEndian.Uint32(c.take(4))
	size := int(c.take(1)[0])
	c.check(size == 4 || size == 16, "address")
	addr, _ := netip.AddrFromSlice(c.take(size))
	h.Mesh = netip.AddrPortFrom(addr.Unmap(), binary.BigEndian.Uint16(c.take(2)))
	c.check(addr.IsValid() && !addr.IsUnspecified() && !addr.IsMulticast() && h.Mesh.Port() != 0, "address")
	h.AccessURL = c.text("access URL", maxURL)
	h.State = c.text("state", maxState)
	h.Load = float64(math.Float32frombits(binary.BigEndian.Uint32(c.take(4))))
	c.check(h.Load >= 0 && h.Load <= maxLoad, "load") // fails for NaN too
	h.PolicyVersion = c.uvarint("policy version", math.MaxUint64)
	h.Voter = c.flag("voter")
	h.Sessions = int(c.uvarint("sessions", maxSessions))
	risks := int(c.take(1)[0])
	c.check(risks <= maxRisks, "number of risks")
	for range min(risks, maxRisks) {
		h.Risks = append(h.Risks, c.text("risk", maxRisk))
	}
	return h
}

func decodeLink(c *cursor) (l linkEntry) {
	l.to = binary.BigEndian.Uint32(c.take(4))
	l.latency = time.Duration(c.uvarint("latency", uint64(maxDelay/delayUnit))) * delayUnit
	l.jitter = time.Duration(c.uvarint("jitter", uint64(maxDelay/delayUnit))) * delayUnit
	l.lossOut, l.lossIn = c.take(1)[0], c.take(1)[0]
	l.down = c.flag("link state")
	return l
}

// seal signs a record: u16 length of the body, body, u16 length of the certificate, certificate, signature. Links are left
// out from the end until it fits; the caller puts the most useful ones first.
func (r *record) seal(id *identity.Identity) ([]byte, error) {
	r.links = r.links[:min(len(r.links), maxLinkEntries)]
	for {
		body := r.encode(nil)
		cert, sig, err := id.Sign(recordContext, body)
		if err != nil {
			return nil, err
		}
		size := 2 + len(body) + 2 + len(cert) + maxSignature
		if size > maxRecord && len(r.links) > 0 {
			over := (size - maxRecord + maxLinkBytes - 1) / maxLinkBytes
			r.links = r.links[:max(len(r.links)-over, 0)]
			continue
		}
		out := binary.BigEndian.AppendUint16(make([]byte, 0, size), uint16(len(body)))
		out = append(out, body...)
		out = binary.BigEndian.AppendUint16(out, uint16(len(cert)))
		out = append(out, cert...)
		return append(out, sig...), nil
	}
}

const (
	maxSignature = 72 // ECDSA P-256 in ASN.1
	maxLinkBytes = 4 + 4 + 4 + 3
)

// openEnvelope takes a sealed record apart without checking anything but lengths.
func openEnvelope(b []byte) (body, cert, sig []byte, err error) {
	if len(b) > maxRecord {
		return nil, nil, nil, fmt.Errorf("record of %d bytes; at most %d", len(b), maxRecord)
	}
	c := &cursor{b: b}
	body = c.take(int(binary.BigEndian.Uint16(c.take(2))))
	cert = c.take(int(binary.BigEndian.Uint16(c.take(2))))
	return body, cert, c.b, c.err
}
