package access

import (
	"net"
	"net/netip"
	"sync/atomic"
)

const (
	// runBytes and runSegments bound what leaves in one system call; the kernel takes 64 segments of 64 KiB together.
	runBytes    = 32 << 10
	runSegments = 32
)

// runWriter sends several datagrams at once: run is segments of equal size, the last may be shorter.
type runWriter interface {
	WriteRun(run []byte, segment int, to netip.AddrPort) error
}

// clientPort is the one UDP port of all WebRTC clients, with the means to send runs if the socket has them. The library
// reads and writes it for ICE, DTLS and RTCP; RTP to viewers is written by outboxes.
type clientPort struct {
	net.PacketConn
	wire   runWriter     // nil: no runs
	failed atomic.Uint64 // datagrams of outboxes that the network refused
}

func newClientPort(conn net.PacketConn) *clientPort {
	wire, _ := conn.(runWriter)
	return &clientPort{PacketConn: conn, wire: wire}
}

// outbox collects datagrams to one address after the other and sends them as runs of equal segments, one system call
// for a frame's packets instead of one each. Not for concurrent use; its owner calls to, then room and add for every
// datagram, then flush.
type outbox struct {
	port    *clientPort
	address netip.AddrPort
	used    int
	segment int
	count   int
	buf     [runBytes]byte
}

// to says where the next datagrams go. What waits for another address leaves first.
func (o *outbox) to(address netip.AddrPort) {
	if address != o.address {
		o.flush()
		o.address = address
	}
}

// room returns where to write the next datagram, of at most size bytes.
func (o *outbox) room(size int) []byte {
	if o.used+size > len(o.buf) || o.count >= runSegments {
		o.flush()
	}
	return o.buf[o.used : o.used+size : o.used+size]
}

// add takes the first size bytes of the last room as a datagram. A longer one than those before begins a run of its own, a
// shorter one ends a run.
func (o *outbox) add(size int) {
	if o.count > 0 && size > o.segment {
		at := o.used
		o.flush()
		copy(o.buf[:], o.buf[at:at+size])
	}
	if o.count == 0 {
		o.segment = size
	}
	o.used += size
	o.count++
	if size < o.segment {
		o.flush()
	}
}

// flush sends what waits.
func (o *outbox) flush() {
	if o.count == 0 {
		return
	}
	var err error
	if o.port.wire != nil {
		err = o.port.wire.WriteRun(o.buf[:o.used], o.segment, o.address)
	} else {
		err = o.oneByOne()
	}
	if err != nil {
		o.port.failed.Add(uint64(o.count))
	}
	o.used, o.count = 0, 0
}

// oneByOne is for sockets that know no runs: an emulated network's.
func (o *outbox) oneByOne() (err error) {
	to := net.UDPAddrFromAddrPort(o.address)
	for rest := o.buf[:o.used]; len(rest) > 0; {
		n := min(o.segment, len(rest))
		if _, e := o.port.WriteTo(rest[:n], to); e != nil {
			err = e
		}
		rest = rest[n:]
	}
	return err
}
