package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ternmesh/tern/node"
)

// TestNoPolicyIsLostToKill9 kills real voters at random instants while policies are applied, and starts them again on what
// is left on their disks. KILL9_COUNT asks for more kills, KILL9_SEED for others.
func TestNoPolicyIsLostToKill9(t *testing.T) {
	if testing.Short() {
		t.Skip("real processes take some seconds")
	}
	kills, seed := fromEnv("KILL9_COUNT", 3), fromEnv("KILL9_SEED", 1)
	rng := rand.New(rand.NewPCG(uint64(seed), 9))
	binary := buildTern(t)
	nodes := startMesh(t, binary)
	nodes[0].until("a leader", func(s node.Status) bool { return s.Control.Leader != "" && alive(s) == 3 })
	w := &killWriter{t: t, binary: binary, nodes: nodes, acked: make(map[uint64]string)}
	w.write()
	for i := range kills {
		victim := nodes[rng.IntN(len(nodes))]
		at := time.Duration(rng.IntN(400)) * time.Millisecond
		killed := make(chan struct{})
		go func() { // a random instant: in the middle of a write, or not
			defer close(killed)
			time.Sleep(at)
			_ = victim.stop(syscall.SIGKILL)
		}()
		w.write()
		<-killed
		victim.start()
		victim.until(fmt.Sprintf("up again after kill %d", i+1), func(s node.Status) bool { return s.Control.Leader != "" })
	}
	last := w.write()
	for _, p := range nodes {
		p.until("the last policy in force", func(s node.Status) bool { return s.PolicyVersion >= last })
		// Without a leader, for a moment after the last kill, a voter answers from its own log, which may lag.
		if lost := w.missing(p); len(lost) > 0 {
			p.until("a leader and the whole log", func(s node.Status) bool { return s.Control.Leader != "" && len(w.missing(p)) == 0 })
		}
	}
	if out, err := tern(t, binary, "audit", "verify", "--admin", nodes[0].admin); err != nil {
		t.Errorf("audit verify: %v\n%s", err, out)
	}
	t.Logf("%d kills, %d acknowledged versions, the last is %d", kills, len(w.acked), last)
}

// killWriter applies policies through whichever node answers.
type killWriter struct {
	t      *testing.T
	binary string
	nodes  []*process
	acked  map[uint64]string
	n      int
}

// write applies one policy that can be told from others, and returns its version.
func (w *killWriter) write() uint64 {
	w.t.Helper()
	w.n++
	file := w.t.TempDir() + "/p.yaml"
	doc := testPolicy + fmt.Sprintf("blocklist: [10.%d.%d.0/24]\n", w.n/250, w.n%250)
	if err := os.WriteFile(file, []byte(doc), 0o600); err != nil {
		w.t.Fatal(err)
	}
	var out string
	var err error
	for try := range 60 {
		p := w.nodes[(w.n+try)%len(w.nodes)]
		if out, err = tern(w.t, w.binary, "policy", "apply", "-f", file, "--admin", p.admin); err == nil {
			break
		}
	}
	var version uint64
	if _, scanErr := fmt.Sscanf(out, "policy version %d applied", &version); err != nil || scanErr != nil {
		w.t.Fatalf("apply: %v\n%s", err, out)
	}
	w.acked[version] = fmt.Sprint("write ", w.n)
	return version
}

// missing lists acknowledged versions that a node's answer does not hold.
func (w *killWriter) missing(p *process) (lost []uint64) {
	out, err := tern(w.t, w.binary, "policy", "history", "--admin", p.admin, "--json")
	if err != nil {
		w.t.Fatalf("%v\n%s", err, out)
	}
	for version := range w.acked {
		if !strings.Contains(out, fmt.Sprintf("\"version\": %d,", version)) {
			lost = append(lost, version)
		}
	}
	return lost
}

// fromEnv reads a number; the name must not begin with TERN_, which nodes take for configuration.
func fromEnv(key string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(key)); err == nil {
		return n
	}
	return otherwise
}
