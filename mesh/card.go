package mesh

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"unicode/utf8"

	"github.com/ternmesh/tern/mesh/identity"
	"github.com/ternmesh/tern/mesh/linkstate"
)

const (
	cardContext = "node card"
	rowContext  = "link state"

	maxURL, maxState  = 200, 16
	maxRisks, maxRisk = 4, 40
)

// card is what a node says of itself that rarely changes: the part of Health that is not in its row.
type card struct {
	node   string
	health Health
}

// encode appends the content. Fields that are too long are cut: they are the node's own.
func (r *card) encode(b []byte) []byte {
	h := &r.health
	b = appendText(b, r.node, 63)
	b = binary.BigEndian.AppendUint32(b, h.Incarnation)
	addr := h.Mesh.Addr().Unmap().AsSlice()
	b = append(b, byte(len(addr)))
	b = append(b, addr...)
	b = binary.BigEndian.AppendUint16(b, h.Mesh.Port())
	b = appendText(b, h.AccessURL, maxURL)
	b = appendText(b, h.State, maxState)
	b = append(b, bit(h.Voter))
	risks := h.Risks[:min(len(h.Risks), maxRisks)]
	b = append(b, byte(len(risks)))
	for _, risk := range risks {
		b = appendText(b, risk, maxRisk)
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

// cursor reads a card; after an error everything is zero.
type cursor struct {
	b   []byte
	err error
}

func (c *cursor) take(n int) []byte {
	if c.err != nil || len(c.b) < n {
		if c.err == nil {
			c.err = errors.New("card is cut short")
		}
		return make([]byte, n)
	}
	out := c.b[:n]
	c.b = c.b[n:]
	return out
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
		c.err = fmt.Errorf("%w: %s", linkstate.ErrAbsurd, what)
	}
}

// decodeCard is the inverse of encode. It refuses whatever encode would not write of a sane node.
func decodeCard(b []byte) (card, error) {
	c := &cursor{b: b}
	var r card
	r.node = c.text("node name", 63)
	c.check(c.err != nil || identity.CheckName("node name", r.node) == nil, "node name")
	h := &r.health
	h.Incarnation = binary.BigEndian.Uint32(c.take(4))
	size := int(c.take(1)[0])
	c.check(size == 4 || size == 16, "address")
	addr, _ := netip.AddrFromSlice(c.take(size))
	h.Mesh = netip.AddrPortFrom(addr.Unmap(), binary.BigEndian.Uint16(c.take(2)))
	c.check(addr.IsValid() && !addr.IsUnspecified() && !addr.IsMulticast() && h.Mesh.Port() != 0, "address")
	h.AccessURL = c.text("access URL", maxURL)
	h.State = c.text("state", maxState)
	h.Voter = c.flag("voter")
	risks := int(c.take(1)[0])
	c.check(risks <= maxRisks, "number of risks")
	for range min(risks, maxRisks) {
		h.Risks = append(h.Risks, c.text("risk", maxRisk))
	}
	if c.err == nil && len(c.b) > 0 {
		c.err = errors.New("card has bytes after its end")
	}
	if c.err != nil {
		return card{}, c.err
	}
	return r, nil
}
