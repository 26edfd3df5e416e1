package load

import (
	"context"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/pion/rtp"

	"github.com/ternmesh/tern/bench/client"
)

// rawScheme marks the URLs of a server without WebRTC: RTP as it is, to everybody who has said hello (tern bench fanout --raw). It is
// the floor under every server's figures: what the same packets cost without sessions, keys and bookkeeping.
const rawScheme = "udp"

// rawHello is what a viewer says once a second, and at first.
var rawHello = []byte{0}

// raw is a client of such a server. It implements session.
type raw struct {
	conn  *net.UDPConn
	to    *net.UDPAddr
	stop  context.CancelFunc
	group sync.WaitGroup
}

func openRaw(to string) (*raw, context.Context, error) {
	u, err := url.Parse(to)
	if err != nil {
		return nil, nil, err
	}
	at, err := net.ResolveUDPAddr("udp", u.Host)
	if err != nil {
		return nil, nil, err
	}
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	return &raw{conn: conn, to: at, stop: stop}, ctx, nil
}

// publishRaw sends what a source yields, with the numbers of books.
func publishRaw(to string, source client.Source, b *books, stream int) (session, error) {
	r, ctx, err := openRaw(to)
	if err != nil {
		return nil, err
	}
	w := newWire(r.conn, func(heading, time.Time) {}, func(h heading, at time.Time) { b.left(stream, h, at) })
	kinds := source.Tracks()
	r.group.Go(func() {
		buf := make([]byte, wirePacket)
		_ = source.Run(ctx, nil, func(track int, p *rtp.Packet) error { // ends with ctx
			p.PayloadType, p.SSRC = 96, uint32(track)
			if kinds[track].Kind == "audio" {
				p.PayloadType = opusPayload
			}
			n, err := p.MarshalTo(buf)
			if err == nil {
				_, _ = w.WriteTo(buf[:n], r.to) // what is refused is lost
			}
			return err
		})
	})
	return r, nil
}

// viewRaw reads headers until it is closed.
func viewRaw(to string, b *books, stream int) (session, error) {
	r, ctx, err := openRaw(to)
	if err != nil {
		return nil, err
	}
	w := newWire(r.conn, func(h heading, at time.Time) { b.glimpsed(stream, h, at) }, nil)
	r.group.Go(func() {
		var none [1]byte
		for {
			if _, _, err := w.ReadFrom(none[:]); err != nil {
				return
			}
		}
	})
	r.group.Go(func() {
		for ctx.Err() == nil {
			_, _ = w.WriteTo(rawHello, r.to) // said again in a second
			_ = pause(ctx, time.Second)
		}
	})
	return r, nil
}

// Close implements session.
func (r *raw) Close() error {
	r.stop()
	err := r.conn.Close()
	r.group.Wait()
	return err
}

// Done implements session: nothing ends it but Close.
func (r *raw) Done() <-chan struct{} { return nil }

// Moves implements session: there is nowhere to go.
func (r *raw) Moves() uint64 { return 0 }

// Timing implements session: there is no handshake.
func (r *raw) Timing() client.Timing { return client.Timing{} }
