package direct

import (
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/quic-go/quic-go"
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

// writeKind sends the header: one byte of length, then the kind.
func writeKind(w io.Writer, kind string) error {
	if len(kind) == 0 || len(kind) > maxKind {
		return fmt.Errorf("kind %q must be 1 to %d bytes", kind, maxKind)
	}
	_, err := w.Write(append([]byte{byte(len(kind))}, kind...))
	return err
}

// readKind reads the header that writeKind sends.
func readKind(r io.Reader) (string, error) {
	var n [1]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return "", err
	}
	if n[0] == 0 || int(n[0]) > maxKind {
		return "", fmt.Errorf("kind of %d bytes, at most %d", n[0], maxKind)
	}
	kind := make([]byte, n[0])
	if _, err := io.ReadFull(r, kind); err != nil {
		return "", err
	}
	return string(kind), nil
}
