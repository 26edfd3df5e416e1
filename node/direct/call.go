package direct

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/ternmesh/tern/mesh/identity"
)

const (
	// MaxMessage bounds a request and an answer, in bytes: a full policy fits.
	MaxMessage = 8 << 20
	// serveTimeout bounds how long a peer may take to send its request or read its answer.
	serveTimeout = 15 * time.Second
)

// Call sends one request on a stream of its own and returns the answer, at most MaxMessage bytes each way.
// It waits as long as ctx lets it.
func (l *Layer) Call(ctx context.Context, node, kind string, request []byte) ([]byte, error) {
	conn, err := l.Dial(ctx, node, kind)
	if err != nil {
		return nil, err
	}
	return exchange(ctx, conn, request)
}

// CallAddr is Call to an address, for a node that is not yet a member.
func (l *Layer) CallAddr(ctx context.Context, addr netip.AddrPort, kind string, request []byte) ([]byte, identity.Peer, error) {
	conn, peer, err := l.DialAddr(ctx, addr, kind)
	if err != nil {
		return nil, peer, err
	}
	answer, err := exchange(ctx, conn, request)
	return answer, peer, err
}

func exchange(ctx context.Context, conn net.Conn, request []byte) ([]byte, error) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := conn.Write(request); err != nil {
		return nil, fmt.Errorf("sending the request: %w", err)
	}
	if err := closeWrite(conn); err != nil {
		return nil, fmt.Errorf("ending the request: %w", err)
	}
	answer, err := readAll(conn, MaxMessage)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	return answer, nil
}

// HandleCalls serves streams of a kind as calls: f answers each request of at most limit bytes. Call it before Run.
func (l *Layer) HandleCalls(kind string, limit int, f func(ctx context.Context, peer identity.Peer, request []byte) []byte) {
	l.Handle(kind, func(ctx context.Context, peer identity.Peer, conn net.Conn) {
		defer conn.Close()
		_ = conn.SetReadDeadline(time.Now().Add(serveTimeout))
		request, err := readAll(conn, limit)
		if err != nil {
			l.cfg.Logger.Debug("refused a call", "peer", peer.Node, "kind", kind, "err", err)
			return
		}
		answer := f(ctx, peer, request)
		_ = conn.SetWriteDeadline(time.Now().Add(serveTimeout))
		if _, err := conn.Write(answer); err != nil {
			l.cfg.Logger.Debug("an answer was not taken", "peer", peer.Node, "kind", kind, "err", err)
		}
	})
}

func closeWrite(conn net.Conn) error {
	if c, ok := conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return errors.New("the stream cannot be half-closed")
}

// readAll reads to the end of the stream, and refuses more than limit bytes.
func readAll(r io.Reader, limit int) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	if len(b) > limit {
		return nil, fmt.Errorf("message above %d bytes", limit)
	}
	return b, nil
}
