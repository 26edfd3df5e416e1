package load

import (
	"encoding/binary"
	"net"
	"time"

	"github.com/pion/transport/v4"
	"github.com/pion/transport/v4/stdnet"
	"golang.org/x/net/ipv4"
)

const (
	// wireBatch is how many packets one read takes; wireBuffer what the system keeps for a client between two, in bytes.
	wireBatch  = 32
	wireBuffer = 2 << 20
	// wirePacket is the longest packet that is read; longer ones are cut, which no header minds.
	wirePacket = 1600
	// opusPayload is the payload type of audio in the client library's offers; what else is RTP is video.
	opusPayload = 111
)

// heading is what an RTP header says in clear.
type heading struct {
	payload uint8
	seq     uint16
	ssrc    uint32
}

func (h heading) audio() bool { return h.payload == opusPayload }

// headingOf reads an RTP header; false for anything else that shares the port (RFC 7983, RFC 5761).
func headingOf(b []byte) (h heading, ok bool) {
	if len(b) < 12 || b[0]>>6 != 2 || b[1] >= 192 && b[1] <= 223 {
		return h, false
	}
	return heading{b[1] & 0x7f, binary.BigEndian.Uint16(b[2:]), binary.BigEndian.Uint32(b[8:])}, true
}

// wire is a client's socket that keeps RTP to itself: heard is told of packets by their headers and the instant at which they
// came to this socket, sent of those that leave, right before. The rest (ICE, DTLS, RTCP) passes. One goroutine reads.
type wire struct {
	transport.UDPConn
	heard func(h heading, at time.Time)
	sent  func(h heading, at time.Time) // nil: nobody asks

	batch     *ipv4.PacketConn
	msgs      []ipv4.Message
	next, got int
}

func newWire(conn *net.UDPConn, heard, sent func(heading, time.Time)) *wire {
	w := &wire{UDPConn: conn, heard: heard, sent: sent, msgs: make([]ipv4.Message, wireBatch)}
	_ = conn.SetReadBuffer(wireBuffer) // less costs losses under load, which are seen
	stampArrivals(conn)
	w.batch = ipv4.NewPacketConn(conn) // its batches know both families
	for i := range w.msgs {
		w.msgs[i].Buffers = [][]byte{make([]byte, wirePacket)}
		w.msgs[i].OOB = make([]byte, 64)
	}
	return w
}

// ReadFrom implements net.PacketConn for the library.
func (w *wire) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		for ; w.next < w.got; w.next++ {
			m := &w.msgs[w.next]
			p := m.Buffers[0][:m.N]
			if h, ok := headingOf(p); ok {
				w.heard(h, arrivalOf(m.OOB[:m.NN]))
				continue
			}
			w.next++
			return copy(b, p), m.Addr, nil
		}
		n, err := w.batch.ReadBatch(w.msgs, 0)
		if err != nil {
			return 0, nil, err
		}
		w.next, w.got = 0, n
	}
}

// WriteTo implements net.PacketConn for the library.
func (w *wire) WriteTo(b []byte, to net.Addr) (int, error) {
	if h, ok := headingOf(b); ok && w.sent != nil {
		w.sent(h, time.Now())
	}
	return w.UDPConn.WriteTo(b, to)
}

// wires is the machine's network for one client, with wires for sockets.
type wires struct {
	*stdnet.Net
	heard, sent func(heading, time.Time)
}

// ListenUDP implements transport.Net.
func (n wires) ListenUDP(network string, at *net.UDPAddr) (transport.UDPConn, error) {
	conn, err := net.ListenUDP(network, at)
	if err != nil {
		return nil, err
	}
	return newWire(conn, n.heard, n.sent), nil
}
