package fanout

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/ternmesh/tern/node/udp"
)

// ServeRaw is the floor under any server: RTP that comes is sent to everybody who has said hello (one byte), what one read brings as
// one run, with neither keys nor sessions. It returns when conn is closed.
func ServeRaw(conn *udp.Conn) error {
	var viewers []netip.AddrPort
	var burst []byte
	segment := 0
	flush := func() {
		for _, to := range viewers {
			if len(burst) > 0 {
				_ = conn.WriteRun(burst, segment, to) // a viewer that is gone must not stop the others
			}
		}
		burst = burst[:0]
	}
	for {
		err := conn.ReadRuns(func(run []byte, size int, from netip.AddrPort, _ bool, _ time.Duration) {
			if len(run) < 2 {
				if !slices.Contains(viewers, from) {
					viewers = append(viewers, from)
				}
				return
			}
			if size != segment {
				flush()
			}
			burst, segment = append(burst, run...), size
			if len(run)%size != 0 { // the last packet is shorter: nothing can follow it
				flush()
			}
		})
		flush()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
