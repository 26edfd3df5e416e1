//go:build !linux

package udp

import (
	"net"
	"net/netip"
)

type batch struct{}

func (*batch) ready() bool { return false }

func (c *Conn) initBatch() error {
	c.noGSO.Store(true)
	return nil
}

func sizeBuffers(c *net.UDPConn) {
	if c.SetReadBuffer(BufferBytes) != nil || c.SetWriteBuffer(BufferBytes) != nil {
		warnBuffers(0)
	}
}

func (*Conn) writeGSO([]byte, int, netip.AddrPort) error { return nil }

func refused(error) (remember, fallback bool) { return true, true }

func (c *Conn) readBatch(handle func([]byte, netip.AddrPort)) error { return c.readOne(handle) }
