package token

import (
	"bytes"
	"compress/zlib"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
)

const (
	prefix007 = "007"
	// maxInflated caps what a 007 token may inflate to. A real one is some hundred
	// bytes; without the cap 4 KiB could ask for megabytes.
	maxInflated = 16 << 10
	sigSize     = sha256.Size
)

// Service types of 007.
const (
	serviceRTC       = 1
	serviceRTM       = 2
	serviceStreaming = 3
	serviceFPA       = 4
	serviceChat      = 5
	serviceFCDN      = 6
	serviceAPaaS     = 7
	serviceRTM2      = 8
)

// content is a parsed 007 token. Its slices point into the inflated bytes.
type content struct {
	signature []byte
	body      []byte // everything that is signed, as received
	appID     string
	issued    uint32 // Unix seconds
	expire    uint32 // seconds after issued
	salt      uint32
	services  []service
	leftover  int // bytes after the last service, where all services are known
}

// service is one service of a 007 token. Channel and user are set for the types that
// have them; rtm2's resources are checked for shape and not kept.
type service struct {
	kind          uint16
	privileges    []privilege
	channel, user string
}

// privilege is one entry of a service's map; seconds count from the issue time.
type privilege struct {
	id      uint16
	seconds uint32
}

// decode007 undoes base64 and zlib and parses, with bounds at every step.
func decode007(tok string) (content, error) {
	text := strings.TrimPrefix(tok, prefix007)
	if strings.ContainsAny(text, "\r\n") { // the decoder would skip them
		return content{}, fmt.Errorf("%w: line break", ReasonMalformed)
	}
	packed, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return content{}, fmt.Errorf("%w: base64", ReasonMalformed)
	}
	raw, err := inflate(packed)
	if err != nil {
		return content{}, fmt.Errorf("%w: %w", ReasonMalformed, err)
	}
	return parse007(raw)
}

// inflater is a reusable zlib reader with its output buffer: together they are some
// 60 KiB that a hostile token must not make us allocate anew.
type inflater struct {
	z   io.ReadCloser
	src bytes.Reader
	buf [maxInflated + 1]byte
}

var inflaters = sync.Pool{New: func() any { return new(inflater) }}

var (
	errStream   = errors.New("zlib stream")
	errTooBig   = errors.New("inflates beyond the cap")
	errTrailing = errors.New("bytes after the zlib stream")
)

// inflate returns what packed holds; the stream must end, with a correct checksum, at
// the last byte.
func inflate(packed []byte) ([]byte, error) {
	in := inflaters.Get().(*inflater)
	defer inflaters.Put(in)
	in.src.Reset(packed)
	if err := in.reset(); err != nil {
		return nil, errStream
	}
	n, err := io.ReadFull(in.z, in.buf[:])
	switch {
	case err == nil:
		return nil, errTooBig
	case err != io.EOF && err != io.ErrUnexpectedEOF:
		return nil, errStream
	}
	// ReadFull folds a clean end and a cut stream into one error; ask again which.
	if _, err := in.z.Read(in.buf[n:]); err != io.EOF {
		return nil, errStream
	}
	if in.src.Len() != 0 {
		return nil, errTrailing
	}
	return bytes.Clone(in.buf[:n]), nil
}

// reset points the zlib reader at the source. A reader exists only after a first
// good header, because that is how the library makes one.
func (in *inflater) reset() (err error) {
	if in.z == nil {
		in.z, err = zlib.NewReader(&in.src)
		return err
	}
	return in.z.(zlib.Resetter).Reset(&in.src, nil)
}

// parse007 reads the content. An unknown service type ends the services (its layout
// is unknown), and only then may bytes be left; the verifier judges that after the
// signature, which covers them.
func parse007(raw []byte) (content, error) {
	p := parser{rest: raw}
	var c content
	c.signature = p.bytes()
	c.body = p.rest
	c.appID = string(p.bytes())
	c.issued, c.expire, c.salt = p.u32(), p.u32(), p.u32()
	count := int(p.u16())
	known := true
	for i := 0; i < count && known && !p.short; i++ {
		var s service
		if s, known = p.service(); known {
			c.services = append(c.services, s)
		}
	}
	switch {
	case p.short:
		return content{}, fmt.Errorf("%w: ends early", ReasonMalformed)
	case p.duplicate:
		return content{}, fmt.Errorf("%w: a privilege twice in one service", ReasonMalformed)
	case len(c.signature) != sigSize:
		return content{}, fmt.Errorf("%w: signature of %d bytes", ReasonMalformed, len(c.signature))
	}
	if known {
		c.leftover = len(p.rest)
	}
	return c, nil
}

// parser reads little-endian fields. After a short read every value is zero and short
// is set; each loop over a count stops there, so work is bounded by the input.
type parser struct {
	rest      []byte
	short     bool
	duplicate bool
}

func (p *parser) take(n int) []byte {
	if p.short || n > len(p.rest) {
		p.short = true
		return nil
	}
	b := p.rest[:n]
	p.rest = p.rest[n:]
	return b
}

func (p *parser) u16() uint16 {
	if b := p.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (p *parser) u32() uint32 {
	if b := p.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (p *parser) bytes() []byte { return p.take(int(p.u16())) }

// service reads one service; false if its type is unknown.
func (p *parser) service() (service, bool) {
	s := service{kind: p.u16()}
	if s.kind < serviceRTC || s.kind > serviceRTM2 {
		return s, false
	}
	s.privileges = p.privileges()
	switch s.kind {
	case serviceRTC, serviceStreaming, serviceFCDN:
		s.channel, s.user = string(p.bytes()), string(p.bytes())
	case serviceAPaaS:
		s.channel, s.user = string(p.bytes()), string(p.bytes())
		p.u16() // role
	case serviceRTM, serviceChat:
		s.user = string(p.bytes())
	case serviceRTM2:
		s.user = string(p.bytes())
		p.resources()
	}
	return s, true
}

// privileges reads a map. A key given twice has no meaning that readers agree on.
func (p *parser) privileges() []privilege {
	var out []privilege
	for n := int(p.u16()); n > 0 && !p.short; n-- {
		next := privilege{id: p.u16(), seconds: p.u32()}
		for _, had := range out {
			p.duplicate = p.duplicate || had.id == next.id
		}
		if p.duplicate {
			break
		}
		out = append(out, next)
	}
	return out
}

// resources walks RTM2's nested permissions without keeping them.
func (p *parser) resources() {
	for r := int(p.u16()); r > 0 && !p.short; r-- {
		p.u16() // resource type
		for n := int(p.u16()); n > 0 && !p.short; n-- {
			p.u16() // permission
			for names := int(p.u16()); names > 0 && !p.short; names-- {
				p.bytes()
			}
		}
	}
}

// sign007 computes the signature of body. The certificate is the message of the first
// HMAC and the time its key: that is how the format is, not a slip.
func sign007(certificate string, issued, salt uint32, body []byte) []byte {
	k1 := mac(binary.LittleEndian.AppendUint32(nil, issued), []byte(certificate))
	k2 := mac(binary.LittleEndian.AppendUint32(nil, salt), k1)
	return mac(k2, body)
}

func mac(key, msg []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(msg)
	return h.Sum(nil)
}
