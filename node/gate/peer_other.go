//go:build !linux

package gate

import "net"

// socketPeer is whoever the socket's file mode, 0600, lets connect.
type socketPeer struct{}

func peerOf(*net.UnixConn) socketPeer { return socketPeer{} }

func (socketPeer) trusted() bool { return true }

// Network implements net.Addr.
func (socketPeer) Network() string { return "unix" }

func (socketPeer) String() string { return "local" }
