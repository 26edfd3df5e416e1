package ebpf_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/ternmesh/tern/ebpf"
)

// Three real nodes on one wire; what goes from B to C by way of A is relayed by A's kernel. In the midst of a stream B and C
// cannot reach each other any more, so that A's way is the only one: the viewer at C must get every packet.
func TestEndToEndNodesRelayInTheKernel(t *testing.T) {
	const addrA, addrB, addrC = "10.81.0.1", "10.81.0.2", "10.81.0.3"
	f := newField(t, "w", "a", "b", "c", "relay")
	run(t, "ip", "-n", f.ns("w"), "link", "add", "bridge0", "type", "bridge")
	run(t, "ip", "-n", f.ns("w"), "link", "set", "bridge0", "up")
	for ns, addr := range map[string]string{"a": addrA, "b": addrB, "c": addrC} {
		f.pair("w", "port-"+ns, ns, "tern0")
		f.addr(ns, "tern0", addr)
		run(t, "ip", "-n", f.ns("w"), "link", "set", "port-"+ns, "master", "bridge0")
	}
	// A veth takes what its other end sends back by XDP only while it has a program itself.
	var pass io.Closer
	f.within("w", func() (err error) {
		pass, err = ebpf.AttachPass("port-a")
		return err
	})
	defer pass.Close()
	f.startNodes(
		fieldNode{"a", addrA, addrA, "mode: xdp, interfaces: [tern0], relay: kernel"},
		fieldNode{"b", addrB, addrB, "mode: go"}, fieldNode{"c", addrC, addrC, "mode: go"},
	)
	f.until("A knows both", func() bool { return f.report("a").Peers >= 3 })
	publish, view := f.client("b", "publish", addrB), f.client("c", "view", addrC)
	f.until("A's kernel relays", func() bool { return f.report("a").Relayed > 300 })
	for _, ns := range []string{"b", "c"} { // isolated ports of a bridge reach only the others
		run(t, "bridge", "-n", f.ns("w"), "link", "set", "dev", "port-"+ns, "isolated", "on")
	}
	before, begin := f.report("a").Relayed, time.Now()
	f.until("the kernel relays most of two seconds' stream", func() bool {
		return f.report("a").Relayed >= before+800 && time.Since(begin) > 2500*time.Millisecond
	})
	v, p := view(), publish()
	if v.Got == 0 || v.Got != v.Last-v.First+1 || v.Last < v.First+700 || p.Failed {
		t.Errorf("the viewer at C got %d of packets %d to %d, %d were sent", v.Got, v.First, v.Last, p.Sent)
	}
	kernel := f.report("a").Relayed // asked first: the stream may not have ended in between
	total := f.relayed("a")
	t.Logf("the viewer got %d of packets %d to %d; A relayed %d frames, its kernel %d of them", v.Got, v.First, v.Last, total, kernel)
	if total < kernel || float64(kernel) < 0.7*float64(total) {
		t.Errorf("A's braid counts %d relayed frames, its kernel %d", total, kernel)
	}
}

// relayed is how many frames a node's braid says it has relayed, in the kernel or not.
func (f *field) relayed(node string) uint64 {
	f.t.Helper()
	dial := func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", f.adminSocket(node)) }
	answer, err := (&http.Client{Transport: &http.Transport{DialContext: dial}}).Get("http://node/metrics")
	if err != nil {
		f.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if n := regexp.MustCompile(`(?m)^tern_braid_frames_total\{result="relayed"\} (\S+)$`).FindSubmatch(text); err == nil && n != nil {
		x, err := strconv.ParseFloat(string(n[1]), 64)
		if err == nil {
			return uint64(x)
		}
	}
	f.t.Fatalf("no count of relayed frames: %v %s", err, text)
	return 0
}
