package node

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// tellRefusals makes a write fail after an earlier packet came to a closed port (ICMP), which is how a node learns that
// a receiver of plain RTP is gone.
func tellRefusals(conn net.PacketConn) {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return // an emulated network
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVERR, 1)
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1)
	})
}
