package link

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/ternmesh/tern/sim"
)

const (
	// maxFlows bounds the sources of one tunnel.
	maxFlows = 1024
	// flowIdle ends a flow that has carried nothing towards the server for so long.
	flowIdle = 2 * time.Minute
	// maxDatagram is the largest UDP payload there can be.
	maxDatagram = 64 << 10
	// socketBytes is asked for at each real port: an emulator that does not run for a moment must not lose what it emulates no loss of.
	socketBytes = 4 << 20
)

// tunnel is one real port; what comes in goes through the link to one real address.
type tunnel struct {
	link *Link
	conn *net.UDPConn
	at   netip.AddrPort
	to   netip.AddrPort

	mu    sync.Mutex // guards flows
	flows map[netip.AddrPort]*flow
}

// flow is one source of a tunnel, with a socket of its own towards the server.
type flow struct {
	near, far *sim.Conn
	out       *net.UDPConn
	used      time.Time // guarded by tunnel.mu
}

func newTunnel(l *Link, listen, to netip.AddrPort) (*tunnel, error) {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(listen))
	if err != nil {
		return nil, fmt.Errorf("listen on %v: %w", listen, err)
	}
	_ = conn.SetReadBuffer(socketBytes) // as much as the kernel grants
	return &tunnel{link: l, conn: conn, at: conn.LocalAddr().(*net.UDPAddr).AddrPort(), to: to, flows: make(map[netip.AddrPort]*flow)}, nil
}

// run reads the real port until ctx ends, then waits for the flows.
func (t *tunnel) run(ctx context.Context) error {
	var flows sync.WaitGroup
	defer flows.Wait()
	stop := context.AfterFunc(ctx, t.close)
	defer stop()
	flows.Go(func() { t.reap(ctx) })
	buf := make([]byte, maxDatagram)
	for {
		n, from, err := t.conn.ReadFromUDPAddrPort(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			continue // an ICMP error of an earlier packet
		}
		f, err := t.flow(from, &flows)
		if err != nil {
			t.link.mu.Lock()
			t.link.refused++
			t.link.mu.Unlock()
			t.link.cfg.Logger.Warn("packet refused", "from", from, "error", err)
			continue
		}
		_, _ = f.near.WriteTo(buf[:n], f.far.LocalAddr()) // an emulated port takes everything until it is closed
	}
}

// flow finds or opens the flow of a source.
func (t *tunnel) flow(from netip.AddrPort, wg *sync.WaitGroup) (*flow, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := t.flows[from]; f != nil {
		f.used = time.Now()
		return f, nil
	}
	if len(t.flows) >= maxFlows {
		return nil, fmt.Errorf("%d sources are carried already", maxFlows)
	}
	near, err := t.link.near.ListenPacket(t.link.ctx, netip.AddrPortFrom(nearAddr, 0))
	if err != nil {
		return nil, err
	}
	far, err := t.link.far.ListenPacket(t.link.ctx, netip.AddrPortFrom(farAddr, 0))
	if err != nil {
		_ = near.Close()
		return nil, err
	}
	out, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(t.to))
	if err != nil {
		_, _ = near.Close(), far.Close()
		return nil, err
	}
	_ = out.SetReadBuffer(socketBytes)
	f := &flow{near: near.(*sim.Conn), far: far.(*sim.Conn), out: out, used: time.Now()}
	t.flows[from] = f
	wg.Go(func() { // out of the link, to the server
		for f.far.ReadRuns(func(p []byte, _ int, _ netip.AddrPort, _ bool, _ time.Duration) { _, _ = f.out.Write(p) }) == nil {
		}
	})
	wg.Go(func() { // out of the link, to the program
		for f.near.ReadRuns(func(p []byte, _ int, _ netip.AddrPort, _ bool, _ time.Duration) {
			_, _ = t.conn.WriteToUDPAddrPort(p, from)
		}) == nil {
		}
	})
	wg.Go(func() { t.answers(f) })
	return f, nil
}

// answers carries what the server sends back, until the flow is closed.
func (t *tunnel) answers(f *flow) {
	buf := make([]byte, maxDatagram)
	for {
		n, err := f.out.Read(buf)
		if err != nil {
			if f.closed() {
				return
			}
			continue // the server's port is not open (yet)
		}
		_, _ = f.far.WriteTo(buf[:n], f.near.LocalAddr())
	}
}

// closed says whether close was called: a connected UDP socket also fails when nobody listens at the other end.
func (f *flow) closed() bool { return f.out.SetReadDeadline(time.Time{}) != nil }

func (f *flow) close() {
	_ = f.out.Close()
	_ = f.near.Close()
	_ = f.far.Close()
}

// reap closes idle flows.
func (t *tunnel) reap(ctx context.Context) {
	tick := time.NewTicker(flowIdle / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		t.mu.Lock()
		for from, f := range t.flows {
			if time.Since(f.used) > flowIdle {
				f.close()
				delete(t.flows, from)
			}
		}
		t.mu.Unlock()
	}
}

// close ends the port and all flows.
func (t *tunnel) close() {
	_ = t.conn.Close()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.flows {
		f.close()
	}
}
