//go:build !linux

package node

import "net"

// tellRefusals exists on Linux; elsewhere sessions of plain RTP end by their tokens alone.
func tellRefusals(net.PacketConn) {}
