package direct

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/quic-go/quic-go"

	"github.com/ternmesh/tern/node/tracing"
)

// maxKind bounds the name of a stream's kind, in bytes.
const maxKind = 32

// Codes of a stream that ends early.
const (
	codeClosed  quic.StreamErrorCode = 0
	codeAborted quic.StreamErrorCode = 1
)

// stream is one QUIC stream as a net.Conn. Close ends both directions: the peer's pending data is
// of no use to a caller that is done.
type stream struct {
	*quic.Stream
	conn *quic.Conn
}

func newStream(conn *quic.Conn, s *quic.Stream) *stream { return &stream{Stream: s, conn: conn} }

// LocalAddr implements net.Conn.
func (s *stream) LocalAddr() net.Addr { return s.conn.LocalAddr() }

// RemoteAddr implements net.Conn.
func (s *stream) RemoteAddr() net.Addr { return s.conn.RemoteAddr() }

// Read implements net.Conn. A stream that either side closed ends in io.EOF, as protocols over TCP expect.
func (s *stream) Read(p []byte) (int, error) {
	n, err := s.Stream.Read(p)
	var closed *quic.StreamError
	if errors.As(err, &closed) && closed.ErrorCode == codeClosed {
		err = io.EOF
	}
	return n, err
}

// Close implements net.Conn: what was written is still delivered, nothing more is read.
func (s *stream) Close() error {
	s.CancelRead(codeClosed)
	return s.Stream.Close()
}

// CloseWrite tells the peer that nothing more comes, and leaves reading open.
func (s *stream) CloseWrite() error { return s.Stream.Close() }

func (s *stream) reset() {
	s.CancelRead(codeAborted)
	s.CancelWrite(codeAborted)
}

// traced is the bit of the header's first byte that says: a trace's identity follows the kind.
const traced = 0x80

// writeHeader sends the kind, and the identity of ctx's trace if the peer knows traces.
func writeHeader(ctx context.Context, traces bool, w io.Writer, kind string) error {
	if len(kind) == 0 || len(kind) > maxKind {
		return fmt.Errorf("kind %q must be 1 to %d bytes", kind, maxKind)
	}
	b := append([]byte{byte(len(kind))}, kind...)
	if traces {
		var ok bool
		if b, ok = tracing.Append(b, ctx); ok {
			b[0] |= traced
		}
	}
	_, err := w.Write(b)
	return err
}

// readHeader reads what writeHeader sends; trace is empty if there is none.
func readHeader(r io.Reader) (kind string, trace []byte, err error) {
	var n [1]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return "", nil, err
	}
	size, more := int(n[0]&^traced), 0
	if size == 0 || size > maxKind {
		return "", nil, fmt.Errorf("kind of %d bytes, at most %d", size, maxKind)
	}
	if n[0]&traced != 0 {
		more = tracing.WireSize
	}
	b := make([]byte, size+more)
	if _, err := io.ReadFull(r, b); err != nil {
		return "", nil, err
	}
	return string(b[:size]), b[size:], nil
}
