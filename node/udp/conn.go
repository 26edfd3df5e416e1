package udp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// BufferBytes is what Listen asks for as send and receive buffer: 60 ms at 500 Mbit/s.
	BufferBytes = 4 << 20
	// maxRunBytes and maxSegments bound one GSO run.
	maxRunBytes = 65507
	maxSegments = 64
	// readBytes is the largest message that can be read: a GRO run.
	readBytes = 1 << 16
)

// Conn is a UDP socket. Writes are safe for concurrent use; ReadRuns is for one goroutine.
type Conn struct {
	*net.UDPConn
	noGSO atomic.Bool // the kernel or the card refused a run
	batch batch
	buf   []byte // of the portable ReadRuns
}

// ErrFull says that the socket's send buffer is full.
var ErrFull = errors.New("the socket's send buffer is full")

var errSegment = errors.New("udp: a run's segments must not be empty")

var bufferWarning sync.Once

// Listen opens a UDP socket. An unspecified IPv6 address serves IPv4 as well. A failure names the address.
func Listen(ctx context.Context, addr netip.AddrPort) (*Conn, error) {
	network := "udp"
	if addr.Addr().Is4() {
		network = "udp4"
	}
	var lc net.ListenConfig
	pc, err := lc.ListenPacket(ctx, network, addr.String())
	if err != nil {
		return nil, fmt.Errorf("udp: listening on %v: %w", addr, err)
	}
	c := &Conn{UDPConn: pc.(*net.UDPConn)}
	sizeBuffers(c.UDPConn)
	if err := c.initBatch(); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("udp: %w", err)
	}
	return c, nil
}

// warnBuffers says once per process that the kernel grants less than asked for.
func warnBuffers(got int) {
	bufferWarning.Do(func() {
		slog.Warn("UDP socket buffers are smaller than wanted; bursts may be lost",
			"got_bytes", got, "wanted_bytes", BufferBytes,
			"fix", fmt.Sprintf("sysctl -w net.core.rmem_max=%d net.core.wmem_max=%d", BufferBytes, BufferBytes))
	})
}

// WriteTo implements net.PacketConn.
func (c *Conn) WriteTo(p []byte, to net.Addr) (int, error) {
	u, ok := to.(*net.UDPAddr)
	if !ok || len(p) == 0 || u.Zone != "" { // runs know no zones
		return c.UDPConn.WriteTo(p, to)
	}
	if err := c.WriteRun(p, len(p), u.AddrPort()); err != nil {
		return 0, err
	}
	return len(p), nil
}

// WriteRun sends run as packets of segment bytes each, of which the last may be shorter. It blocks only as long as the
// socket's buffer is full. On an error some of the packets may have been sent.
func (c *Conn) WriteRun(run []byte, segment int, to netip.AddrPort) error {
	return c.writeRun(run, segment, to, true)
}

// TryWriteRun is WriteRun for media: it never waits. ErrFull means that the socket's buffer had no room for the packets that
// were not sent. The packets say that their sender answers to congestion marks (ECN, ECT(0)).
func (c *Conn) TryWriteRun(run []byte, segment int, to netip.AddrPort) error {
	return c.writeRun(run, segment, to, false)
}

func (c *Conn) writeRun(run []byte, segment int, to netip.AddrPort, wait bool) error {
	if segment <= 0 {
		return errSegment
	}
	for len(run) > 0 {
		n := min(segment, len(run))
		if n < len(run) && !c.noGSO.Load() {
			n = min(len(run), max(1, min(maxSegments, maxRunBytes/segment))*segment)
		}
		err := c.writeOne(run[:n], segment, to, wait)
		if remember, fallback := refused(err); fallback && n > segment {
			if remember {
				c.noGSO.Store(true)
			}
			n = segment
			err = c.writeOne(run[:n], segment, to, wait)
		}
		if err != nil {
			return fmt.Errorf("udp: writing to %v: %w", to, err)
		}
		run = run[n:]
	}
	return nil
}

// writeOne sends one packet, or a run in one call.
func (c *Conn) writeOne(run []byte, segment int, to netip.AddrPort, wait bool) error {
	err := c.tryWrite(run, segment, to, !wait)
	if !wait || !errors.Is(err, ErrFull) {
		return err
	}
	if len(run) > segment {
		return c.writeGSO(run, segment, to)
	}
	_, err = c.WriteToUDPAddrPort(run, to)
	return err
}

// ReadRuns waits for packets and calls handle for each run that one batched read brings: packets of segment bytes from one
// sender, one behind the other, of which the last may be shorter. marked: a router on the way marked them as having waited
// (ECN, congestion experienced). waited is how long they were in this socket already, 0 where the kernel does not say: a reader that
// comes late is no delay of the network. A run is valid, and may be changed, during the call. ReadRuns returns net.ErrClosed
// (wrapped) once the socket is closed.
func (c *Conn) ReadRuns(handle func(run []byte, segment int, from netip.AddrPort, marked bool, waited time.Duration)) error {
	if c.batch.ready() {
		return c.readBatch(handle)
	}
	return c.readOne(handle)
}

// readOne is the portable way.
func (c *Conn) readOne(handle func(run []byte, segment int, from netip.AddrPort, marked bool, waited time.Duration)) error {
	if c.buf == nil {
		c.buf = make([]byte, readBytes)
	}
	n, from, err := c.ReadFromUDPAddrPort(c.buf)
	if err != nil {
		return err
	}
	handle(c.buf[:n], n, unmap(from), false, 0)
	return nil
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
