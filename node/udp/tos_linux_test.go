package udp

import (
	"testing"

	"golang.org/x/sys/unix"
)

func setTOS(t *testing.T, c *Conn, tos int) {
	t.Helper()
	err := c.batch.raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TOS, tos)
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_TCLASS, tos)
	})
	if err != nil {
		t.Fatal(err)
	}
}
