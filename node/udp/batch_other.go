//go:build !linux

package udp

import (
	"net"
	"net/netip"
	"time"
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

func (c *Conn) readBatch(handle func([]byte, int, netip.AddrPort, bool, time.Duration)) error {
	return c.readOne(handle)
}

// tryWrite waits where the system's sockets do: without batches there is no way around.
func (c *Conn) tryWrite(run []byte, _ int, to netip.AddrPort, _ bool) error {
	_, err := c.WriteToUDPAddrPort(run, to)
	return err
}

// Queued is not known on this system.
func (*Conn) Queued() int { return 0 }
