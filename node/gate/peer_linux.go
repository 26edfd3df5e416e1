package gate

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// socketPeer is the user at the other end of a Unix socket; -1 is unknown.
type socketPeer int

// peerOf asks the kernel (SO_PEERCRED): the user that the process had when it connected.
func peerOf(conn *net.UnixConn) socketPeer {
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1
	}
	peer := socketPeer(-1)
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			peer = socketPeer(cred.Uid)
		}
	})
	return peer
}

// trusted: root and the user that the node runs as, who could read the node's keys anyway.
func (p socketPeer) trusted() bool { return p == 0 || int(p) == os.Geteuid() }

// Network implements net.Addr.
func (socketPeer) Network() string { return "unix" }

func (p socketPeer) String() string { return fmt.Sprintf("uid %d", int(p)) }
