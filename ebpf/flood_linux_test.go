package ebpf_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
	"golang.org/x/sys/unix"

	"github.com/ternmesh/tern/bench/client"
	"github.com/ternmesh/tern/ebpf"
)

// Three namespaces: clients and the attacker reach node A over one pair of interfaces, node B reaches it over another.
// Everything runs as processes of their own, as it would on hosts.
const (
	floodMesh, floodAccess, floodHTTP, floodAdmin = 7900, 8081, 8080, 7902
	attackerAddr, nodeAAddr                       = "10.78.0.1", "10.78.0.9"
	nodeAMesh, nodeBAddr                          = "10.79.0.9", "10.79.0.2"
	helperVariable                                = "FLOOD_CLIENT"
)

type field struct {
	t      *testing.T
	id     string
	dir    string
	binary string
	nodes  map[string]process
}

// process is one that start began; wait returns when it has ended.
type process struct {
	pid  int
	wait func()
}

func run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

func (f *field) ns(name string) string { return f.id + name }

// in is a command inside a namespace.
func (f *field) in(ns string, args ...string) []string {
	return append([]string{"ip", "netns", "exec", f.ns(ns)}, args...)
}

// newField makes namespaces, and skips the test where it may not take so long.
func newField(t *testing.T, namespaces ...string) *field {
	t.Helper()
	if os.Getenv("CI") != "true" && os.Getenv("FLOOD_RATE") == "" {
		t.Skip("takes half a minute, two processors and privileges: set FLOOD_RATE=50000 (CI runs it)")
	}
	id := fmt.Sprintf("tern-%s-%d-", namespaces[len(namespaces)-1], os.Getpid())
	f := &field{t: t, id: id, dir: t.TempDir(), nodes: map[string]process{}}
	f.binary = filepath.Join(f.dir, "tern")
	run(t, "go", "build", "-o", f.binary, "github.com/ternmesh/tern/cmd/tern")
	for _, ns := range namespaces {
		run(t, "ip", "netns", "add", f.ns(ns))
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", f.ns(ns)).Run() })
		run(t, "ip", "-n", f.ns(ns), "link", "set", "lo", "up")
	}
	return f
}

// pair joins two namespaces by a veth pair.
func (f *field) pair(ns, dev, otherNS, otherDev string) {
	run(f.t, "ip", "-n", f.ns(ns), "link", "add", dev, "type", "veth", "peer", "name", otherDev, "netns", f.ns(otherNS))
	run(f.t, "ip", "-n", f.ns(ns), "link", "set", dev, "up")
	run(f.t, "ip", "-n", f.ns(otherNS), "link", "set", otherDev, "up")
}

func (f *field) addr(ns, dev, addr string) {
	run(f.t, "ip", "-n", f.ns(ns), "addr", "add", addr+"/24", "dev", dev)
}

// start runs a process until the test ends; what it prints is shown if the test fails.
func (f *field) start(args []string, env ...string) (out *bytes.Buffer, stdin io.Closer, pid int, wait func()) {
	f.t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	out = new(bytes.Buffer)
	log := new(bytes.Buffer)
	own := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "TERN_") }) // which nodes would read
	cmd.Env, cmd.Stdout, cmd.Stderr = append(own, env...), out, log
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		f.t.Fatalf("%v: %v", args, err)
	}
	wait = sync.OnceFunc(func() { _ = cmd.Wait() })
	f.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		wait()
		if f.t.Failed() {
			text := log.String()
			f.t.Logf("%v:\n%s", args[4:], text[max(0, len(text)-3000):])
		}
	})
	return out, in, cmd.Process.Pid, wait
}

// fieldNode is a node in the namespace of its name; filter is that part of its configuration.
type fieldNode struct{ name, mesh, access, filter string }

// startNodes makes a mesh of which the first node is the voter, and which the others join.
func (f *field) startNodes(nodes ...fieldNode) {
	f.t.Helper()
	ca := filepath.Join(f.dir, "ca")
	run(f.t, f.binary, "ca", "init", "--dir", ca, "--mesh", "flood")
	for i, n := range nodes {
		home := filepath.Join(f.dir, n.name)
		run(f.t, f.binary, "ca", "issue", "--ca", ca, "--node", n.name, "--region", "eu", "--voter", "--out", home)
		config := fmt.Sprintf("node: %s\ndata_dir: data\nidentity: {ca: %s/ca.crt, cert: %s.crt, key: %s.key}\n"+
			"mesh: {listen: \"0.0.0.0:%d\", advertise: \"%s:%d\", join: [\"%s:%d\"]}\ncontrol: {voter: %v, expect: 1}\n"+
			"access: {listen: \"%s:%d\", plain_http: true, udp: \"%s:%d\", rtp_host: %s}\n"+
			"admin: {listen: \"127.0.0.1:%d\"}\nfilter: {%s}\n",
			n.name, ca, n.name, n.name, floodMesh, n.mesh, floodMesh, nodes[0].mesh, floodMesh, i == 0,
			n.access, floodHTTP, n.access, floodAccess, n.access, floodAdmin, n.filter)
		file := filepath.Join(home, "node.yaml")
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			f.t.Fatal(err)
		}
		f.startNode(n.name)
	}
	policy := filepath.Join(f.dir, "policy.yaml")
	doc := "regions: [{id: eu}]\napps: [{id: open, name: open, auth: app_id}]\n"
	if err := os.WriteFile(policy, []byte(doc), 0o600); err != nil {
		f.t.Fatal(err)
	}
	f.until("the nodes elect a leader and take a policy", func() bool {
		args := f.in("a", f.binary, "policy", "apply", "-f", policy, "--admin", f.adminSocket("a"))
		return exec.Command(args[0], args[1:]...).Run() == nil
	})
}

// startNode runs a node whose configuration stands. ip becomes the node: exec keeps the process.
func (f *field) startNode(name string) {
	f.t.Helper()
	_, _, pid, wait := f.start(f.in(name, f.binary, "node", "--config", filepath.Join(f.dir, name, "node.yaml")))
	f.nodes[name] = process{pid, wait}
}

// adminSocket is where a node's operator asks it.
func (f *field) adminSocket(node string) string {
	return filepath.Join(f.dir, node, "data", "admin.sock")
}

// until waits for a condition; its limit is for what never comes, not for what a busy machine delays.
func (f *field) until(what string, ok func() bool) {
	f.t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			f.t.Fatalf("still waiting: %s", what)
		}
	}
}

// cpu is the processor time that node A has used so far, by its own account (softirq time counts elsewhere).
func (f *field) cpu() time.Duration {
	f.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", f.nodes["a"].pid))
	fields := strings.Fields(string(text))
	if err != nil || len(fields) < 15 {
		f.t.Fatalf("processor time of node A: %v %s", err, text)
	}
	user, _ := strconv.Atoi(fields[13])
	system, _ := strconv.Atoi(fields[14])
	return time.Duration(user+system) * 10 * time.Millisecond
}

func (f *field) report(node string) (r ebpf.Report) {
	f.t.Helper()
	f.ask(node, &r, "status")
	return r
}

// ask is what a node's operator gets from tern filter.
func (f *field) ask(node string, answer any, filter ...string) {
	f.t.Helper()
	args := append(f.in(node, f.binary, "filter"), append(filter, "--json", "--admin", f.adminSocket(node))...)
	if err := json.Unmarshal([]byte(run(f.t, args...)), answer); err != nil {
		f.t.Fatal(err)
	}
}

// client runs TestHelperClient in a namespace; the answer comes when finish is called.
func (f *field) client(ns, kind, node string) (finish func() clientResult) {
	f.t.Helper()
	args := f.in(ns, os.Args[0], "-test.run=^TestHelperClient$")
	env := helperVariable + "=" + kind + " http://" + net.JoinHostPort(node, strconv.Itoa(floodHTTP))
	out, stdin, _, wait := f.start(args, env)
	return func() (r clientResult) {
		_ = stdin.Close()
		wait()
		line, _, _ := strings.Cut(out.String(), "\n")
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			f.t.Errorf("%s at %s said %q: %v", kind, node, out.String(), err)
		}
		return r
	}
}

// clientResult is what a helper prints at its end.
type clientResult struct {
	Sent, First, Last, Got uint64
	Failed                 bool
}

// TestHelperClient publishes 500 packets a second, or counts what a viewer gets, until its standard input ends.
func TestHelperClient(t *testing.T) {
	kind, url, ok := strings.Cut(os.Getenv(helperVariable), " ")
	if !ok {
		t.Skip("helper process of the flood tests")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	ended := make(chan struct{})
	go func() { // ends with the standard input
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	var r clientResult
	every := func(se *webrtc.SettingEngine) {
		se.SetIncludeLoopbackCandidate(false)
		se.SetIPFilter(func(net.IP) bool { return true })
		se.SetICEUDPMux(webrtc.NewICEUDPMux(nil, roomySocket(t, url)))
	}
	switch kind {
	case "rtp":
		r.Sent = ingest(t, url, ended)
	case "publish":
		p := join(t, func() (*client.Publisher, error) {
			return client.Publish(ctx, client.Config{URL: url + "/whip/open/room?stream=cam", Setting: every, Source: client.Synthetic{PerSec: 500, Burst: 5}})
		})
		<-ended
		r.Sent, r.Failed = p.Stats().Packets, p.Err() != nil
		_ = p.Close()
	default:
		var mu sync.Mutex
		seen := map[uint64]bool{}
		count := func(_ string, p *rtp.Packet, _ time.Time) {
			if n, _, ok := client.Stamp(p.Payload); ok {
				mu.Lock()
				seen[n] = true
				mu.Unlock()
			}
		}
		v := join(t, func() (*client.Viewer, error) {
			return client.View(ctx, client.Config{URL: url + "/whep/open/room", Setting: every, OnPacket: count})
		})
		<-ended
		mu.Lock()
		r.First = ^uint64(0)
		for n := range seen {
			r.First, r.Last = min(r.First, n), max(r.Last, n)
		}
		r.Got = uint64(len(seen))
		mu.Unlock()
		_ = v.Close()
	}
	_ = json.NewEncoder(os.Stdout).Encode(r)
}

// roomySocket is a socket of the address that leads to url. It holds what comes within seconds: what a client loses because its
// process waits for a processor is not the nodes' fault.
func roomySocket(t *testing.T, url string) net.PacketConn {
	t.Helper()
	conn, err := net.Dial("udp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	own := conn.LocalAddr().(*net.UDPAddr).IP
	_ = conn.Close()
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: own})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := socket.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20) })
	}
	if err != nil {
		t.Fatal(err)
	}
	return socket
}

// join tries until the policy and the stream are there.
func join[T any](t *testing.T, try func() (T, error)) T {
	t.Helper()
	for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		x, err := try()
		if err == nil {
			return x
		}
		if time.Since(begin) > time.Minute {
			t.Fatal(err)
		}
	}
}

// raw sends Ethernet frames from an interface to a node.
type raw struct {
	fd   int
	to   unix.SockaddrLinklayer
	head []byte // both hardware addresses
	node netip.Addr
}

// openRaw sends out of dev in namespace ns to the interface of another namespace that has an address.
func (f *field) openRaw(ns, dev, toNS, toDev, addr string) *raw {
	f.t.Helper()
	mac := func(ns, dev string) net.HardwareAddr {
		var links []struct{ Address string }
		text := run(f.t, "ip", "-j", "-n", f.ns(ns), "link", "show", "dev", dev)
		if err := json.Unmarshal([]byte(text), &links); err != nil || len(links) != 1 {
			f.t.Fatalf("address of %s: %v %s", dev, err, text)
		}
		hw, _ := net.ParseMAC(links[0].Address)
		return hw
	}
	r := &raw{head: append(append([]byte{}, mac(toNS, toDev)...), mac(ns, dev)...), node: netip.MustParseAddr(addr)}
	f.within(ns, func() error {
		i, err := net.InterfaceByName(dev)
		if err == nil {
			r.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
			r.to = unix.SockaddrLinklayer{Ifindex: i.Index, Halen: 6}
		}
		return err
	})
	f.t.Cleanup(func() { unix.Close(r.fd) })
	return r
}

// within opens a socket in a namespace, on a thread of its own, which dies there.
func (f *field) within(name string, open func() error) {
	f.t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		ns, err := unix.Open("/var/run/netns/"+f.ns(name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(ns, unix.CLONE_NEWNET)
			unix.Close(ns)
		}
		if err == nil {
			err = open()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		f.t.Fatalf("socket in %s: %v", name, err)
	}
}

// frame is a UDP datagram to the node; frag is the fragment field of its header.
func (r *raw) frame(src netip.Addr, port uint16, frag uint16, payload []byte) []byte {
	b := append(append([]byte{}, r.head...), 0x08, 0x00, 0x45, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(28+len(payload)))
	b = append(b, 0, 1)
	b = binary.BigEndian.AppendUint16(b, frag)
	b = append(b, 64, 17, 0, 0)
	from, to := src.As4(), r.node.As4()
	b = append(append(b, from[:]...), to[:]...)
	sum := uint32(0)
	for i := 14; i < 34; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(b[24:], ^uint16(sum))
	b = binary.BigEndian.AppendUint16(b, 40000)
	b = binary.BigEndian.AppendUint16(b, port)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(payload)))
	return append(append(b, 0, 0), payload...) // no checksum
}

// flood sends frames in turn at a rate, as many as belong to a time, and returns how many left. On a machine that is too busy it
// takes longer: what was missed is not made up for at once, which would be another rate and more than a wire's queue holds.
func (r *raw) flood(frames [][]byte, perSecond int, during time.Duration) (sent int) {
	most := max(128, perSecond/400)
	begin, missed, all := time.Now(), 0, int(during.Seconds()*float64(perSecond))
	for sent < all {
		due := min(all, int(time.Since(begin).Seconds()*float64(perSecond))-missed)
		if late := due - sent - most; late > 0 {
			due, missed = due-late, missed+late
		}
		if sent >= due {
			time.Sleep(200 * time.Microsecond)
		}
		for ; sent < due; sent++ {
			_ = unix.Sendto(r.fd, frames[sent%len(frames)], 0, &r.to) // a full queue is a packet less
		}
	}
	return sent
}

type attack struct {
	name   string
	frames [][]byte
}

// attacks are all hostile classes: from 4,096 made-up sources each, or from a source that is somebody.
func (r *raw) attacks() []attack {
	madeUp := func(port, frag uint16, payload []byte) (out [][]byte) {
		for i := range 4096 {
			src := netip.AddrFrom4([4]byte{11, 1, byte(i >> 8), byte(i)})
			out = append(out, r.frame(src, port, frag, payload))
		}
		return out
	}
	with := func(n int, first ...byte) []byte { return append(first, make([]byte, n-len(first))...) }
	path := with(200, 5, 0x10, 0, 2, 0, 170)
	path[12] = 1
	stun := with(28, 0, 1, 0, 8, 0x21, 0x12, 0xa4, 0x42, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 0x80, 0x30, 0, 4)
	forged := append(with(20, 0, 1, 0, 44, 0x21, 0x12, 0xa4, 0x42), 0, 6, 0, 37)
	forged = append(forged, strings.Repeat("a", 32)+":peer\x00\x00\x00"...)
	client, member := netip.MustParseAddr(attackerAddr), netip.MustParseAddr(nodeBAddr)
	bad := append([]byte{}, path...)
	bad[2] = 3
	return []attack{
		{"gossip of strangers", madeUp(floodMesh, 0, with(200, 4))},
		{"path frames of strangers", madeUp(floodMesh, 0, path)},
		{"path frames that name a member and are malformed", [][]byte{r.frame(member, floodMesh, 0, bad)}},
		{"QUIC Initials", madeUp(floodMesh, 0, with(1200, 0xc0, 0, 0, 0, 1, 8))},
		{"QUIC from one source", [][]byte{r.frame(netip.MustParseAddr("11.2.2.2"), floodMesh, 0, with(60, 0x40))}},
		{"a free class of the mesh port", madeUp(floodMesh, 0, with(60, 9))},
		{"STUN without a ufrag", madeUp(floodAccess, 0, stun)},
		{"STUN with a forged ufrag", madeUp(floodAccess, 0, forged)},
		{"STUN from the client's own address, other port", [][]byte{r.frame(client, floodAccess, 0, forged)}},
		{"DTLS", madeUp(floodAccess, 0, with(150, 22, 0xfe, 0xfd))},
		{"RTP noise", madeUp(floodAccess, 0, with(1000, 0x80, 96))},
		{"RTCP noise", madeUp(floodAccess, 0, with(60, 0x80, 200))},
		{"no class of the access port", madeUp(floodAccess, 0, with(60, 200))},
		{"first fragments", madeUp(floodAccess, 0x2000, with(60, 0x80, 96))},
		{"truncated", [][]byte{r.frame(client, floodAccess, 0, with(60, 0x80))[:40]}},
	}
}

// lay joins the three namespaces of the flood test and starts its two nodes, which filter and tell each other whom they keep out.
func (f *field) lay(mode string) {
	f.t.Helper()
	f.pair("s", "peer0", "a", "tern0")
	f.pair("b", "peer1", "a", "tern1")
	for _, end := range [][3]string{{"s", "peer0", attackerAddr}, {"a", "tern0", nodeAAddr}, {"a", "tern1", nodeAMesh}, {"b", "peer1", nodeBAddr}} {
		f.addr(end[0], end[1], end[2])
	}
	filter := "share_quarantine: true, mode: " + mode + ", interfaces: "
	f.startNodes(fieldNode{"a", nodeAMesh, nodeAAddr, filter + "[tern0, tern1]"}, fieldNode{"b", nodeBAddr, nodeBAddr, filter + "[peer1]"})
}

// FLOOD_RATE and FLOOD_FOR make the flood stronger and longer than what fits beside other tests; FLOOD_MODE=go shows what
// the twin makes of it, for comparison.
func TestEndToEndFloodsHurtNeitherSessionsNorMesh(t *testing.T) {
	f := newField(t, "s", "a", "b")
	rate, during := 50_000, 150*time.Millisecond
	if n, err := strconv.Atoi(os.Getenv("FLOOD_RATE")); err == nil {
		rate = min(n, 200_000)
	}
	if d, err := time.ParseDuration(os.Getenv("FLOOD_FOR")); err == nil {
		during = min(d, 3*time.Second)
	}
	mode := cmp.Or(os.Getenv("FLOOD_MODE"), "xdp")
	f.lay(mode)
	f.until("node A filters as it should", func() bool { return strings.HasPrefix(f.report("a").Mode, mode) })
	captured := f.capture()
	publish := f.client("s", "publish", nodeAAddr)
	near, far := f.client("s", "view", nodeAAddr), f.client("b", "view", nodeBAddr)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("filter at the end: %+v", f.report("a"))
		}
	})
	f.until("publisher and viewer are admitted", func() bool { return f.report("a").Clients >= 2 })
	if r := f.client("s", "rtp", nodeAAddr)(); r.Sent < leastIngest {
		t.Errorf("%d packets of plain RTP were sent, not %d", r.Sent, leastIngest)
	}
	time.Sleep(2500 * time.Millisecond) // clients report by RTCP once a second: that belongs into the capture
	frames := captured()
	before := f.report("a")
	total, r, cpu := 0, f.openRaw("s", "peer0", "a", "tern0", nodeAAddr), f.cpu()
	for _, a := range r.attacks() {
		total += r.flood(a.frames, rate, during)
	}
	cpu = f.cpu() - cpu
	time.Sleep(300 * time.Millisecond)
	after := f.report("a")
	for name, v := range map[string]clientResult{"the viewer at A": near(), "the viewer at B, over the mesh": far()} {
		t.Logf("%s: %d of packets %d to %d", name, v.Got, v.First, v.Last)
		if mode == "go" {
			continue // no promise
		}
		if v.Got == 0 || v.Got != v.Last-v.First+1 || v.Last < 500 {
			t.Errorf("%s got %d of packets %d to %d", name, v.Got, v.First, v.Last)
		}
	}
	if p := publish(); p.Failed {
		t.Error("the publisher failed")
	}
	dropped := drops(after) - drops(before)
	t.Logf("%d hostile packets at %d/s, %d dropped in mode %s; %d sampled; node A used %v, %v per packet",
		total, rate, dropped, mode, after.Samples, cpu, cpu/time.Duration(total))
	if mode == "go" {
		return
	}
	if dropped < uint64(total)*7/10 {
		t.Errorf("%d of %d hostile packets dropped: %+v", dropped, total, after.Counts)
	}
	if len(after.Top) == 0 || after.Samples == before.Samples {
		t.Errorf("no drops sampled: %+v", after)
	}
	t.Run("kernel and twin agree on what was captured", func(t *testing.T) { ebpf.CompareCaptured(t, floodMesh, floodAccess, frames) })
	t.Run("an attacker of one node meets a wall at the other", func(t *testing.T) { f.on(t).shareQuarantine() })
	t.Run("a restart leaves no window", func(t *testing.T) { f.on(t).restart() })
}

func drops(r ebpf.Report) (n uint64) {
	for _, c := range r.Counts {
		if c.Verdict == "drop" {
			n += c.Packets
		}
	}
	return n
}
