package udp

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The ECN field of an IP packet (RFC 3168).
const (
	ecnMask = 3
	ecnECT0 = 2 // the sender answers to marks
	ecnCE   = 3 // a router marks: the packet has waited
)

const (
	cmsgTOS = 24 // CMSG_SPACE(4)
	// sendControl holds the ECN field and the segment size.
	sendControl = cmsgTOS + cmsgSegment
)

// send is one sendmsg that does not wait; kept, so that a write allocates nothing.
type send struct {
	hdr  unix.Msghdr
	iov  unix.Iovec
	name unix.RawSockaddrInet6 // or RawSockaddrInet4, which is shorter
	ctrl [sendControl]byte
	err  error
	call func(fd uintptr)
}

func newSend() any {
	s := &send{}
	s.call = func(fd uintptr) {
		errno := unix.EINTR
		for errno == unix.EINTR { // raw: see receive
			_, _, errno = unix.RawSyscall6(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&s.hdr)), unix.MSG_DONTWAIT, 0, 0, 0)
		}
		s.err = nil
		if errno != 0 {
			s.err = errno
		}
	}
	return s
}

var errFamily = errors.New("an IPv4 socket reaches IPv4 addresses only: listen on [::] for both")

// tryWrite sends one run, or one packet, in one call that never waits, marked as from a sender that answers to congestion
// marks or not. It goes around the lock by which the runtime lets one goroutine write at a time: the kernel needs none, and two
// writers on two processors would wake each other for every packet.
func (c *Conn) tryWrite(run []byte, segment int, to netip.AddrPort, answers bool) error {
	if !c.batch.inet6 && !to.Addr().Unmap().Is4() {
		return errFamily
	}
	s := c.batch.sends.Get().(*send)
	defer c.batch.sends.Put(s)
	s.hdr = unix.Msghdr{Name: (*byte)(unsafe.Pointer(&s.name)), Iov: &s.iov, Control: &s.ctrl[0]}
	s.hdr.SetIovlen(1)
	s.iov.Base = &run[0]
	s.iov.SetLen(len(run))
	s.address(to, c.batch.inet6)
	s.control(segment, len(run), to.Addr().Unmap().Is4(), answers)
	err := c.batch.raw.Control(s.call)
	s.iov.Base = nil
	if err == nil {
		err = s.err
	}
	if err == nil {
		return nil
	}
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENOBUFS) {
		return ErrFull
	}
	return os.NewSyscallError("sendmsg", err)
}

// address writes the destination as the socket's family has it. Zones are not kept: nodes do not use them.
func (s *send) address(to netip.AddrPort, inet6 bool) {
	if !inet6 {
		n := (*unix.RawSockaddrInet4)(unsafe.Pointer(&s.name))
		*n = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: networkPort(to.Port()), Addr: to.Addr().Unmap().As4()}
		s.hdr.Namelen = unix.SizeofSockaddrInet4
		return
	}
	s.name = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: networkPort(to.Port()), Addr: to.Addr().As16()}
	s.hdr.Namelen = unix.SizeofSockaddrInet6
}

// control writes the ECN field, if answers, and the segment size of a run.
func (s *send) control(segment, size int, is4, answers bool) {
	length := 0
	if answers {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&s.ctrl[0]))
		h.Level, h.Type = unix.IPPROTO_IPV6, unix.IPV6_TCLASS
		if is4 {
			h.Level, h.Type = unix.IPPROTO_IP, unix.IP_TOS
		}
		h.SetLen(unix.CmsgLen(4))
		binary.NativeEndian.PutUint32(s.ctrl[unix.CmsgLen(0):], ecnECT0)
		length = cmsgTOS
	}
	if size > segment {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&s.ctrl[length]))
		h.Level, h.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
		h.SetLen(unix.CmsgLen(2))
		binary.NativeEndian.PutUint16(s.ctrl[length+unix.CmsgLen(0):], uint16(segment))
		length += cmsgSegment
	}
	if length == 0 {
		s.hdr.Control = nil
	}
	s.hdr.SetControllen(length)
}

// Queued is how many bytes wait between this socket and the network, as the kernel accounts them; 0 if it does not say.
func (c *Conn) Queued() (bytes int) {
	_ = c.batch.raw.Control(func(fd uintptr) {
		if n, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ); err == nil {
			bytes = n
		}
	})
	return bytes
}
