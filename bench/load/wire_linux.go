package load

import (
	"net"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// stampArrivals asks the kernel for the instant at which each packet arrives: on loopback, that at which its sender sent it. So
// latencies leave out how long this process waited for a processor.
func stampArrivals(conn *net.UDPConn) {
	if raw, err := conn.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1) })
	}
}

// arrivalOf reads the kernel's stamp; now where there is none.
func arrivalOf(oob []byte) time.Time {
	const size = int(unsafe.Sizeof(unix.Timespec{}))
	for len(oob) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&oob[0]))
		n := int(h.Len)
		if n < unix.SizeofCmsghdr || n > len(oob) {
			break
		}
		if data := oob[unix.CmsgLen(0):n]; h.Level == unix.SOL_SOCKET && h.Type == unix.SCM_TIMESTAMPNS && len(data) >= size {
			at := (*unix.Timespec)(unsafe.Pointer(&data[0]))
			return time.Unix(at.Unix())
		}
		oob = oob[min(len(oob), unix.CmsgSpace(n-unix.CmsgLen(0))):]
	}
	return time.Now()
}
