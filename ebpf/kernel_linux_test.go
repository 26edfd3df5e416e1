package ebpf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// wire is two network namespaces joined by a veth pair: the sender's end and the node's end.
type wire struct {
	t            testing.TB
	sender, node string // namespaces
}

const (
	nodeIface           = "tern0"
	nodeAddr4           = "10.77.0.9"
	nodeAddr6           = "fd77::9"
	goodAddr4, badAddr4 = "10.77.0.1", "10.77.0.66"
	goodAddr6, badAddr6 = "fd77::1", "fd77::66"
)

func newWire(t testing.TB) *wire {
	t.Helper()
	runnable(t)
	id := fmt.Sprintf("tern-ebpf-%d-%d", os.Getpid(), rand.Uint32N(1e6))
	w := &wire{t: t, sender: id + "-s", node: id + "-n"}
	for _, ns := range []string{w.sender, w.node} {
		if out, err := exec.Command("ip", "netns", "add", ns).CombinedOutput(); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("CI has to run the kernel tests: ip netns add: %v %s", err, out)
			}
			t.Skipf("no network namespaces here: %v %s", err, out)
		}
		t.Cleanup(func() { w.ip("netns", "del", ns) })
	}
	w.ip("-n", w.sender, "link", "add", "peer0", "type", "veth", "peer", "name", nodeIface, "netns", w.node)
	for _, a := range []string{goodAddr4 + "/24", badAddr4 + "/24", goodAddr6 + "/64", badAddr6 + "/64"} {
		w.addr(w.sender, "peer0", a)
	}
	w.addr(w.node, nodeIface, nodeAddr4+"/24")
	w.addr(w.node, nodeIface, nodeAddr6+"/64")
	w.ip("-n", w.sender, "link", "set", "peer0", "up")
	w.ip("-n", w.node, "link", "set", nodeIface, "up")
	w.ip("-n", w.node, "link", "set", "lo", "up")
	return w
}

func (w *wire) addr(ns, dev, addr string) {
	args := []string{"-n", ns, "addr", "add", addr, "dev", dev}
	if strings.Contains(addr, ":") {
		args = append(args, "nodad")
	}
	w.ip(args...)
}

func (w *wire) ip(args ...string) string {
	w.t.Helper()
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		w.t.Errorf("ip %v: %v %s", args, err, out)
	}
	return string(out)
}

func (w *wire) attached() bool {
	return strings.Contains(w.ip("-n", w.node, "-d", "link", "show", "dev", nodeIface), "prog/xdp")
}

// in runs f on a thread of its own inside a namespace; the thread dies with f.
func (w *wire) in(ns string, f func()) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread must not serve other goroutines
		fd, err := unix.Open("/var/run/netns/"+ns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
			unix.Close(fd)
		}
		if err != nil {
			w.t.Errorf("enter %s: %v", ns, err)
			return
		}
		f()
	}()
	return done
}

func (w *wire) listen(ns, addr string) net.PacketConn {
	w.t.Helper()
	var conn net.PacketConn
	var err error
	<-w.in(ns, func() { conn, err = net.ListenPacket("udp", addr) })
	if err != nil {
		w.t.Fatalf("listen on %s: %v", addr, err)
	}
	w.t.Cleanup(func() { conn.Close() })
	roomy(w.t, conn.(*net.UDPConn))
	return conn
}

// roomy gives a socket a buffer that outlasts a reader who has to wait for a processor: what the tests count is the filter's.
func roomy(t testing.TB, conn *net.UDPConn) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err == nil {
		var set error // the limit of the system does not hold for who may attach programs
		err = raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20) })
		err = errors.Join(err, set)
	}
	if err != nil {
		t.Fatalf("a larger buffer: %v", err)
	}
}

// receive counts what arrives, by the address it came from.
func receive(conn net.PacketConn) func(from string) uint64 {
	var counts [4]atomic.Uint64
	names := []string{goodAddr4, badAddr4, goodAddr6, badAddr6}
	go func() { // ends when the conn closes
		p := make([]byte, 2000)
		for {
			_, from, err := conn.ReadFrom(p)
			if err != nil {
				return
			}
			for i, name := range names {
				if from.(*net.UDPAddr).IP.String() == name {
					counts[i].Add(1)
				}
			}
		}
	}()
	return func(from string) uint64 {
		for i, name := range names {
			if name == from {
				return counts[i].Load()
			}
		}
		return 0
	}
}

// eventually waits for a condition; its limit is for what never comes, not for what a busy machine delays.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still waiting: %s", what)
		}
	}
}

func send(t *testing.T, from net.PacketConn, to string, payload []byte, n int) {
	t.Helper()
	addr := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to))
	for range n {
		if _, err := from.WriteTo(payload, addr); err != nil {
			t.Fatalf("send to %s: %v", to, err)
		}
	}
}

// run starts the filter in the node's namespace and waits until it is in driver mode.
func (w *wire) run(f *Filter) (stop func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var err error
	done := w.in(w.node, func() { err = f.Run(ctx) })
	stop = func() {
		w.t.Helper()
		cancel()
		if <-done; err != nil {
			w.t.Errorf("Run: %v", err)
		}
	}
	w.t.Cleanup(cancel)
	eventually(w.t, "the filter attaches in driver mode", func() bool { return f.Mode() == ModeDriver })
	return stop
}

func newTestFilter(t testing.TB, cfg Config) *Filter {
	t.Helper()
	cfg.MeshPort, cfg.AccessPort, cfg.Logger = testMesh, testAccess, slog.New(slog.DiscardHandler)
	f, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

var badRanges = []netip.Prefix{netip.MustParsePrefix("10.77.0.64/30"), netip.MustParsePrefix("fd77::60/124")}

func xdpCount(f *Filter, c Class, r Reason) (n uint64) {
	for _, k := range f.Stats().XDP {
		if k.Class == c && k.Reason == r {
			n = k.Packets
		}
	}
	return n
}

func TestDriverDropsBlockedSourcesWhileRulesAreReplaced(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	f := newTestFilter(t, Config{Interfaces: []string{nodeIface}, Mode: ModeXDP})
	if err := f.Update(Rules{Blocklist: badRanges}); err != nil {
		t.Fatal(err)
	}
	got := receive(w.listen(w.node, fmt.Sprintf(":%d", testMesh)))
	other := receive(w.listen(w.node, ":9999"))
	stop := w.run(f)
	if !w.attached() || f.TwinActive() {
		t.Errorf("in driver mode: attached %v, twin in the path %v", w.attached(), f.TwinActive())
	}
	const rounds, burst = 60, 32
	to := map[string]string{
		goodAddr4: nodeAddr4, badAddr4: nodeAddr4, goodAddr6: "[" + nodeAddr6 + "]", badAddr6: "[" + nodeAddr6 + "]",
	}
	conns := map[string]net.PacketConn{}
	for from := range to {
		conns[from] = w.listen(w.sender, net.JoinHostPort(from, "0"))
	}
	replaced, finished := make(chan error, 1), make(chan struct{})
	go func() { replaced <- replaceUntil(f, finished) }()
	for round := 1; round <= rounds; round++ {
		for from, conn := range conns {
			send(t, conn, fmt.Sprintf("%s:%d", to[from], testMesh), samplePath(100), burst)
		}
		eventually(t, fmt.Sprintf("burst %d of the good sources arrives whole", round), func() bool {
			return got(goodAddr4) == uint64(round*burst) && got(goodAddr6) == uint64(round*burst)
		})
	}
	close(finished)
	if err := <-replaced; err != nil {
		t.Error(err)
	}
	if n := got(badAddr4) + got(badAddr6); n != 0 {
		t.Errorf("%d packets of blocked sources reached the socket", n)
	}
	eventually(t, "what was sent last is judged", func() bool { return xdpCount(f, ClassMesh, ReasonBlocklist) >= 2*rounds*burst })
	if n := xdpCount(f, ClassMesh, ReasonBlocklist); n != 2*rounds*burst {
		t.Errorf("counted %d blocked packets of %d", n, 2*rounds*burst)
	}
	if n := xdpCount(f, ClassPath, ReasonOK); n != 2*rounds*burst {
		t.Errorf("counted %d path frames that passed of %d", n, 2*rounds*burst)
	}
	send(t, conns[badAddr4], nodeAddr4+":9999", []byte("not for us"), 5)
	eventually(t, "another service of the host hears the blocked source", func() bool { return other(badAddr4) == 5 })

	updates := f.Stats().Updates
	stop()
	if w.attached() || f.Mode() != ModeGo || !f.TwinActive() {
		t.Errorf("after Run: attached %v, mode %s, twin %v", w.attached(), f.Mode(), f.TwinActive())
	}
	if n := xdpCount(f, ClassMesh, ReasonBlocklist); n != 2*rounds*burst {
		t.Errorf("after Run the counter says %d, not %d", n, 2*rounds*burst)
	}
	send(t, conns[badAddr4], fmt.Sprintf("%s:%d", nodeAddr4, testMesh), samplePath(100), 5)
	eventually(t, "nothing stands in the way after Run", func() bool { return got(badAddr4) == 5 })
	t.Logf("%d replacements under traffic", updates-1)
	if top := f.Report().Top; len(top) != 2 || top[0].Reason != "blocklist" || top[0].Samples < rounds*burst/sampleEvery {
		t.Errorf("the blocked sources are not on top of the samples: %+v", top)
	}
}

// replaceUntil puts one rule set after another in force; all of them block the same sources.
func replaceUntil(f *Filter, finished <-chan struct{}) error {
	r := rand.New(rand.NewPCG(1, 2))
	for n := 0; ; n = (n + 500) % 4000 {
		select {
		case <-finished:
			return nil
		default:
		}
		if err := f.Update(Rules{Blocklist: append(sampleBlocklist(n, r), badRanges...)}); err != nil {
			return err
		}
		if n == 1000 { // and one that must change nothing
			if err := f.Update(Rules{Blocklist: []netip.Prefix{{}}}); err == nil {
				return fmt.Errorf("a malformed rule was taken")
			}
		}
	}
}

func TestInterfaceThatGoesAwayPutsTheTwinIntoThePath(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	f := newTestFilter(t, Config{Interfaces: []string{nodeIface}})
	stop := w.run(f)
	w.ip("-n", w.node, "link", "del", nodeIface)
	eventually(t, "the filter notices", func() bool { return f.Mode() == ModeGo && f.TwinActive() })
	if s := f.Stats(); s.Lost != 1 {
		t.Errorf("lost %d interfaces, not 1", s.Lost)
	}
	stop()
}

func TestLoopbackAttachesInGenericMode(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	f := newTestFilter(t, Config{Interfaces: []string{"lo"}})
	ctx, cancel := context.WithCancel(context.Background())
	done := w.in(w.node, func() { _ = f.Run(ctx) })
	eventually(t, "generic mode", func() bool { return f.Mode() == ModeGeneric })
	if a := f.Status().Interfaces; len(a) != 1 || a[0].Why == "" {
		t.Errorf("the status does not say why lo is not in driver mode: %+v", a)
	}
	cancel()
	<-done
}

func TestAutoFallsBackAndXDPModeFails(t *testing.T) {
	runnable(t)
	f := newTestFilter(t, Config{Interfaces: []string{"tern-absent"}, Mode: ModeXDP})
	if err := f.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "tern-absent") {
		t.Errorf("mode xdp without its interface: %v", err)
	}
	var log bytes.Buffer
	f, err := New(Config{
		Interfaces: []string{"tern-absent"}, MeshPort: 1, Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := f.Run(ctx); err != nil {
		t.Errorf("mode auto: %v", err)
	}
	if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "tern-absent: no such interface") {
		t.Errorf("the start is not one line that says why:\n%s", text)
	}
}

// Whoever lacks privileges reads what is missing, not which map the kernel refused.
func TestMissingPrivilegesAreNamed(t *testing.T) {
	t.Parallel()
	runnable(t)
	var log bytes.Buffer
	cmd := exec.Command("setpriv", "--bounding-set=-all", os.Args[0], "-test.run=^TestHelperHoldsTheFilter$")
	cmd.Env, cmd.Stderr = append(os.Environ(), "TERN_FILTER_HOLD=lo", "TERN_FILTER_SAYS=1"), &log
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, &log)
	}
	if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON") || strings.Contains(text, "map") {
		t.Errorf("the start of an unprivileged filter is not one clear line:\n%s", text)
	}
}

// A node that dies must not leave a filter behind that blocks a fresh start.
func TestKilledProcessLeavesNoFilter(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	cmd := exec.Command("ip", "netns", "exec", w.node, os.Args[0], "-test.run=^TestHelperHoldsTheFilter$")
	cmd.Env = append(os.Environ(), "TERN_FILTER_HOLD="+nodeIface)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other process attaches", w.attached)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	eventually(t, "the kernel detaches what the dead process held", func() bool { return !w.attached() })
}

func TestHelperHoldsTheFilter(t *testing.T) {
	name := os.Getenv("TERN_FILTER_HOLD")
	if name == "" {
		t.Skip("helper process of TestKilledProcessLeavesNoFilter")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	f := newTestFilter(t, Config{Interfaces: []string{name}})
	if os.Getenv("TERN_FILTER_SAYS") != "" { // what it logs at its start is all that is wanted
		f.cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
		cancel()
	}
	_ = f.Run(ctx)
}
