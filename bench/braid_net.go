package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/ternmesh/tern/media/braid"
	"github.com/ternmesh/tern/sim"
)

const (
	lossPort = 4433
	// jointSlot is how long a joint loss lasts: at 2,000 packets/s and less it hits one packet.
	jointSlot = 500 * time.Microsecond
)

// lossCase is one set of three paths and what is sent over them.
type lossCase struct {
	title  string
	delays [3]time.Duration
	loss   float64            // independent, per path and direction
	bursts sim.GilbertElliott // more of it, in bursts
	joint  float64            // share of the slots of jointSlot in which a sender loses everything on all paths

	rate   int           // packets a second
	time   time.Duration // of stream, behind lossWarm
	losses int           // go on, by time, until so many packets were lost on all paths; 0: one time is enough
	judge  func(r *Recorder, c *lossCase, got *lossResult)
}

// single is the share of its packets that one path loses, without joint losses.
func (c *lossCase) single() float64 {
	if c.bursts.P > 0 {
		return 1 - (1-c.loss)*(1-c.bursts.P/(c.bursts.P+c.bursts.R))
	}
	return c.loss
}

// theory is the share of the packets that three independent paths and joint losses leave undelivered.
func (c *lossCase) theory() float64 {
	p := c.single()
	return c.joint + (1-c.joint)*p*p*p
}

// lossNet is three pairs of emulated hosts, one per path, and the joint loss of each side.
type lossNet struct {
	c     lossCase
	sim   *sim.Network
	conns [2][3]*sim.Conn
	addrs [2][3]netip.AddrPort
	seed  uint64
	born  time.Time
	watch *oracle // of the media from side 0 to side 1; nil: nobody watches
}

func newLossNet(c lossCase, seed uint64) (*lossNet, error) {
	n := &lossNet{c: c, sim: sim.New(seed), born: time.Now(), seed: seed}
	for path, delay := range c.delays {
		var names [2]string
		for side := range 2 {
			names[side] = fmt.Sprintf("side%d-path%d", side, path)
			addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(side), byte(path), 1}), lossPort)
			pc, err := n.sim.Host(names[side], addr.Addr()).ListenPacket(context.Background(), addr)
			if err != nil {
				return nil, err
			}
			n.conns[side][path], n.addrs[side][path] = pc.(*sim.Conn), addr
		}
		for side := range 2 {
			n.sim.SetLink(names[side], names[1-side], sim.Link{Delay: delay, Loss: c.loss, GE: c.bursts})
		}
	}
	return n, nil
}

// lost: the side loses whatever it sends now, on all paths.
func (n *lossNet) lost(side int) bool {
	if n.c.joint <= 0 {
		return false
	}
	var draw rand.PCG
	draw.Seed(n.seed, uint64(time.Since(n.born)/jointSlot)<<1|uint64(side))
	return float64(draw.Uint64()>>11)/(1<<53) < n.c.joint
}

func (n *lossNet) close() {
	for _, side := range n.conns {
		for _, c := range side {
			_ = c.Close()
		}
	}
	n.sim.Close()
}

// lossyConn is one path of a plain QUIC connection.
type lossyConn struct {
	net.PacketConn
	net  *lossNet
	side int
}

func (c lossyConn) WriteTo(p []byte, to net.Addr) (int, error) {
	if c.net.lost(c.side) {
		return len(p), nil
	}
	return c.PacketConn.WriteTo(p, to)
}
func (c lossyConn) SetReadBuffer(int) error  { return nil }
func (c lossyConn) SetWriteBuffer(int) error { return nil }

// braids starts a pair over the first paths of the set; watch, if not nil, sees each run that a side sends. stop ends it all,
// the network as well.
func (n *lossNet) braids(paths int, carrier braid.Carrier, watch func(side int, run []byte, segment int)) (pair *braidPair, stop func() error, err error) {
	var wires [2]braid.Wire
	for side := range 2 {
		wires[side] = wireFunc(func(run []byte, segment int, _ netip.AddrPort) error {
			if watch != nil {
				watch(side, run, segment)
			}
			path, lost := pathOf(run), n.lost(side)
			if side == 0 && n.watch != nil {
				n.watch.written(run, segment, path, lost)
			}
			if lost {
				return nil
			}
			return n.conns[side][path].WriteRun(run, segment, n.addrs[1-side][path])
		})
	}
	if pair, err = newBraidPair(paths, carrier, wires, [2]netip.AddrPort{n.addrs[0][0], n.addrs[1][0]}); err != nil {
		return nil, nil, err
	}
	var readers sync.WaitGroup
	for side := range 2 {
		for _, conn := range n.conns[side] {
			handle := pair.nodes[side].HandleRun
			if side == 1 && n.watch != nil {
				handle = n.watch.beside(&pair.got[1], handle)
			}
			readers.Go(func() {
				for conn.ReadRuns(handle) == nil {
				}
			})
		}
	}
	return pair, func() error {
		err := pair.close()
		n.close()
		readers.Wait()
		return err
	}, nil
}
