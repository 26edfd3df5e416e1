package udp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// readMessages is how many messages one recvmmsg takes. Each may be a GRO run of 64 KiB, so more would gain little.
	readMessages = 8
	// packetBytes is the longest packet that ReadFrom hands out whole.
	packetBytes = 2048
)

const (
	cmsgSegment = 18 + 6 // CMSG_LEN(2) rounded up: header 16, u16, padding
	cmsgSpace   = 96     // of what is received: segment size, ECN field, time
	// waitMost is what a packet can have waited for its reader; more is a clock that was set.
	waitMost = time.Second
)

type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

// batch is the state of ReadRuns, owned by its one goroutine, and the pool of control messages of writers.
type batch struct {
	raw   syscall.RawConn
	msgs  [readMessages]mmsghdr
	iovs  [readMessages]unix.Iovec
	names [readMessages]unix.RawSockaddrInet6
	ctrl  [readMessages][cmsgSpace]byte
	bufs  [readMessages][]byte
	n     int // messages of the last read
	next  int // of them, the one that ReadFrom hands out next
	err   error
	recv  func(fd uintptr) bool // kept, so that a read allocates no closure
	oob   sync.Pool             // *[cmsgSegment]byte
	inet6 bool                  // an IPv6 socket, which knows IPv4 peers by mapped addresses
	sends sync.Pool             // *send
}

func (b *batch) ready() bool { return b.raw != nil }

// initBatch prepares the read. GRO stays off until the first batched read: a run would reach ReadFrom as one long packet.
func (c *Conn) initBatch() error {
	raw, err := c.SyscallConn()
	if err != nil {
		return fmt.Errorf("reaching the socket: %w", err)
	}
	b := &c.batch
	b.oob.New = func() any { return new([cmsgSegment]byte) }
	b.sends.New = newSend
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVTOS, 1)
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
		if domain, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN); err == nil && domain == unix.AF_INET6 {
			b.inet6 = true
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 1)
		}
		if _, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT); err != nil {
			c.noGSO.Store(true)
		}
	})
	b.recv = func(fd uintptr) bool {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&b.msgs[0])), readMessages, unix.MSG_DONTWAIT, 0, 0)
		b.n, b.err = int(n), nil
		if errno != 0 {
			b.n, b.err = 0, errno
		}
		return errno != unix.EAGAIN && errno != unix.EINTR
	}
	b.raw = raw
	return nil
}

// sizeBuffers asks for large buffers, by force if the process may, and warns if the kernel grants less.
func sizeBuffers(c *net.UDPConn) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	got := BufferBytes
	_ = raw.Control(func(fd uintptr) {
		for _, o := range [...][2]int{{unix.SO_RCVBUF, unix.SO_RCVBUFFORCE}, {unix.SO_SNDBUF, unix.SO_SNDBUFFORCE}} {
			if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, o[1], BufferBytes) != nil {
				_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, o[0], BufferBytes)
			}
			if v, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, o[0]); err == nil {
				got = min(got, v/2) // the kernel doubles what was asked for, for its own bookkeeping
			}
		}
	})
	if got < BufferBytes {
		warnBuffers(got)
	}
}

// writeGSO sends a run in one call.
func (c *Conn) writeGSO(run []byte, segment int, to netip.AddrPort) error {
	oob := c.batch.oob.Get().(*[cmsgSegment]byte)
	defer c.batch.oob.Put(oob)
	h := (*unix.Cmsghdr)(unsafe.Pointer(&oob[0]))
	h.Level, h.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
	h.SetLen(unix.CmsgLen(2))
	binary.NativeEndian.PutUint16(oob[unix.CmsgLen(0):], uint16(segment))
	_, _, err := c.WriteMsgUDPAddrPort(run, oob[:unix.CmsgSpace(2)], to)
	return err
}

// refused tells whether an error means that the run must go packet by packet, and whether to remember that for the whole
// socket. EIO is what a card without checksum offload answers; EINVAL may be the matter of one destination, whose
// interface takes no segment of this size.
func refused(err error) (remember, fallback bool) {
	if errors.Is(err, unix.EINVAL) {
		return false, true
	}
	remember = errors.Is(err, unix.EIO) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOPROTOOPT)
	return remember, remember
}

// receive waits for messages of at most size bytes each. Its system call, like that of tryWrite, goes without the runtime's
// knowledge: both never wait and last some microseconds, and to announce the first one after an idle moment wakes the
// runtime's monitor thread, which then looks around every 20 us. With many short bursts that cost more than the calls.
func (b *batch) receive(size int) error {
	for i := range b.msgs {
		if len(b.bufs[i]) == 0 {
			b.bufs[i] = make([]byte, size)
		}
		h := &b.msgs[i].hdr
		b.iovs[i].Base = &b.bufs[i][0]
		b.iovs[i].SetLen(size)
		h.Iov, h.Name, h.Control = &b.iovs[i], (*byte)(unsafe.Pointer(&b.names[i])), &b.ctrl[i][0]
		h.SetIovlen(1)
		h.Namelen = unix.SizeofSockaddrInet6
		h.SetControllen(cmsgSpace)
	}
	b.n, b.next = 0, 0
	if err := b.raw.Read(b.recv); err != nil {
		return err
	}
	if b.err != nil {
		return os.NewSyscallError("recvmmsg", b.err)
	}
	return nil
}

func (c *Conn) readBatch(handle func(run []byte, segment int, from netip.AddrPort, marked bool, waited time.Duration)) error {
	b := &c.batch
	if b.bufs[0] == nil {
		_ = b.raw.Control(func(fd uintptr) { // a kernel without GRO still reads in batches
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_GRO, 1)
		})
	}
	if err := b.receive(readBytes); err != nil {
		return err
	}
	for i := range b.n {
		m := &b.msgs[i]
		about := controlOf(b.ctrl[i][:m.hdr.Controllen])
		if about.segment == 0 {
			about.segment = int(m.len)
		}
		handle(b.bufs[i][:m.len], about.segment, b.address(i), about.marked, about.waited(time.Now()))
	}
	return nil
}

// ReadFromUDPAddrPort reads one packet of what a batched read brings. For one goroutine, like ReadRuns, and not to be mixed with
// it. A packet of more than 2,048 bytes is cut.
func (c *Conn) ReadFromUDPAddrPort(p []byte) (int, netip.AddrPort, error) {
	b := &c.batch
	if b.next >= b.n {
		if err := b.receive(packetBytes); err != nil {
			return 0, netip.AddrPort{}, err
		}
	}
	i := b.next
	b.next++
	from := b.address(i)
	if from.Addr().Is6() && from.Addr().IsLinkLocalUnicast() {
		from = netip.AddrPortFrom(from.Addr().WithZone(strconv.Itoa(int(b.names[i].Scope_id))), from.Port())
	}
	return copy(p, b.bufs[i][:b.msgs[i].len]), from, nil
}

// ReadFrom is ReadFromUDPAddrPort for users of net.PacketConn.
func (c *Conn) ReadFrom(p []byte) (int, net.Addr, error) {
	n, from, err := c.ReadFromUDPAddrPort(p)
	if err != nil {
		return 0, nil, err
	}
	return n, net.UDPAddrFromAddrPort(from), nil
}

// control is what control messages say of a run.
type control struct {
	segment int   // bytes; 0: one packet
	marked  bool  // a router marked it
	at      int64 // Unix nanoseconds when the kernel had it; 0: it does not say
}

// controlOf reads control messages.
func controlOf(ctrl []byte) (c control) {
	for len(ctrl) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&ctrl[0]))
		size := int(h.Len)
		if size <= unix.SizeofCmsghdr || size > len(ctrl) {
			return c
		}
		data := ctrl[unix.CmsgLen(0):size]
		switch {
		case h.Level == unix.IPPROTO_UDP && h.Type == unix.UDP_GRO && len(data) >= 4:
			c.segment = int(int32(binary.NativeEndian.Uint32(data)))
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_TOS:
			c.marked = data[0]&ecnMask == ecnCE
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_TCLASS && len(data) >= 4:
			c.marked = binary.NativeEndian.Uint32(data)&ecnMask == ecnCE
		case h.Level == unix.SOL_SOCKET && h.Type == unix.SO_TIMESTAMPNS && len(data) == int(unsafe.Sizeof(unix.Timespec{})):
			c.at = (*unix.Timespec)(unsafe.Pointer(&data[0])).Nano()
		}
		ctrl = ctrl[min(len(ctrl), unix.CmsgSpace(size-unix.CmsgLen(0))):]
	}
	return c
}

// waited is how long a run has been in the socket by now.
func (c control) waited(now time.Time) time.Duration {
	if d := time.Duration(now.UnixNano() - c.at); c.at != 0 && d > 0 && d < waitMost {
		return d
	}
	return 0
}

// address of message i. A scoped (link-local) IPv6 address loses its zone: nodes do not use them.
func (b *batch) address(i int) netip.AddrPort {
	n := &b.names[i]
	if n.Family == unix.AF_INET {
		n4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(n))
		return netip.AddrPortFrom(netip.AddrFrom4(n4.Addr), networkPort(n4.Port))
	}
	return netip.AddrPortFrom(netip.AddrFrom16(n.Addr).Unmap(), networkPort(n.Port))
}

func networkPort(p uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], p)
	return binary.BigEndian.Uint16(b[:])
}
