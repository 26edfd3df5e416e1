package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ternmesh/tern/node"
	"github.com/ternmesh/tern/node/gate"
)

const (
	testApp         = "970CA35de60c44645bbae8a215061b33"
	testCertificate = "5CFd2fd1755d40ecb72977518be15d3b"
)

var testPolicy = fmt.Sprintf(`
regions: [{id: eu}, {id: us}, {id: asia}]
apps:
  - id: %s
    name: test
    certificates: [%s]
    auth: token
`, testApp, testCertificate)

// patience is for what never comes, not for what a busy machine delays.
const patience = 2 * time.Minute

// process is one tern node of its own.
type process struct {
	t      testing.TB
	binary string
	dir    string
	name   string
	admin  string // its Unix socket
	listen string // its admin.listen
	cmd    *exec.Cmd
	log    *lockedBuffer
}

// built is the folder of the binary, which all tests share; TestMain removes it.
var built string

var build = sync.OnceValue(func() error {
	var err error
	if built, err = os.MkdirTemp("", "tern-test-"); err != nil {
		return err
	}
	if out, err := exec.Command("go", "build", "-o", filepath.Join(built, "tern"), ".").CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if built != "" {
		_ = os.RemoveAll(built)
	}
	os.Exit(code)
}

// buildTern builds the binary unless another test has. Who runs processes mostly waits for them: such tests run side by side.
func buildTern(t testing.TB) string {
	t.Helper()
	if one, ok := t.(*testing.T); ok {
		one.Parallel()
	}
	if err := build(); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(built, "tern")
}

// tern runs one command to its end.
func tern(t testing.TB, binary string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, binary, args...).CombinedOutput()
	return string(out), err
}

// nextPort begins anywhere, so that two runs at once do not meet.
var nextPort = func() *atomic.Uint32 {
	n := new(atomic.Uint32)
	n.Store(rand.Uint32N(10_000))
	return n
}()

// freePort finds a port that is free for both UDP and TCP now. It is none that the system gives to who asks for any, so that
// nobody takes it before the process that shall have it, or while that process is dead.
func freePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		port := 10_000 + int(nextPort.Add(1)%10_000)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		c, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", port))
		l.Close()
		if err == nil {
			c.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

// startMesh makes an authority and three voters in three regions, and starts them as processes; further lines are added
// to each configuration.
func startMesh(t testing.TB, binary string, further ...string) []*process {
	t.Helper()
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca")
	if out, err := tern(t, binary, "ca", "init", "--dir", ca, "--mesh", "test"); err != nil {
		t.Fatalf("ca init: %v\n%s", err, out)
	}
	var join []string
	for range 3 {
		join = append(join, fmt.Sprintf("127.0.0.1:%d", freePort(t)))
	}
	var nodes []*process
	for i, region := range []string{"eu", "us", "asia"} {
		name := "n-" + region
		home := filepath.Join(dir, name)
		if out, err := tern(t, binary, "ca", "issue", "--ca", ca, "--node", name, "--region", region, "--voter", "--out", home); err != nil {
			t.Fatalf("ca issue: %v\n%s", err, out)
		}
		admin := fmt.Sprintf("127.0.0.1:%d", freePort(t))
		config := fmt.Sprintf("node: %s\ndata_dir: data\nidentity: {ca: %s/ca.crt, cert: %s.crt, key: %s.key}\n"+
			"mesh: {listen: %q, join: [%s]}\ncontrol: {voter: true, expect: 3}\naccess: {listen: \"127.0.0.1:%d\", udp: \"127.0.0.1:%d\"}\nadmin: {listen: %q}\n",
			name, ca, name, name, join[i], strings.Join(quoted(join), ", "), freePort(t), freePort(t), admin) + strings.Join(further, "\n")
		if err := os.WriteFile(filepath.Join(home, "node.yaml"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		p := &process{t: t, binary: binary, dir: home, name: name, listen: admin, admin: filepath.Join(home, "data", "admin.sock"), log: &lockedBuffer{}}
		p.start()
		nodes = append(nodes, p)
	}
	return nodes
}

func quoted(list []string) (out []string) {
	for _, s := range list {
		out = append(out, fmt.Sprintf("%q", s))
	}
	return out
}

func (p *process) start() {
	p.t.Helper()
	p.cmd = exec.Command(p.binary, "node", "--config", filepath.Join(p.dir, "node.yaml"))
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { p.stop(syscall.SIGKILL) })
}

// stop signals this process only and waits for its end.
func (p *process) stop(sig syscall.Signal) error {
	if p.cmd.ProcessState != nil {
		return nil
	}
	_ = p.cmd.Process.Signal(sig)
	return p.cmd.Wait()
}

func (p *process) status() (s node.Status, err error) {
	err = admin(p.t.Context(), gate.Target{Address: p.admin}, http.MethodGet, "/v1/status", nil, &s)
	return s, err
}

// until waits for a condition on a process's status, and shows its log if it never holds.
func (p *process) until(what string, ok func(node.Status) bool) node.Status {
	p.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		s, err := p.status()
		if err == nil && ok(s) {
			return s
		}
		if time.Now().After(deadline) {
			seen, _ := json.Marshal(s)
			p.t.Fatalf("%s: not within %v: %s\nlast error %v\nstatus %s\nlog:\n%s", p.name, patience, what, err, seen, p.log)
		}
		time.Sleep(50 * time.Millisecond) // another process: there is no condition to wait on
	}
}

func TestThreeProcessesKeepThePolicyThroughTheDeathOfTheLeader(t *testing.T) {
	if testing.Short() {
		t.Skip("three processes take some seconds")
	}
	binary := buildTern(t)
	traces, config := startCollector(t)
	nodes := startMesh(t, binary, config)
	for _, p := range nodes {
		p.until("three members and a leader", func(s node.Status) bool {
			return alive(s) == 3 && s.Control.Leader != ""
		})
	}
	apply(t, binary, nodes[1], testPolicy)
	for _, p := range nodes {
		p.until("policy 1 in force", func(s node.Status) bool { return s.PolicyVersion >= 1 })
	}
	publishAndWatch(t, nodes[0], nodes[2])
	checkTraces(t, binary, traces, nodes)

	leader := leaderOf(nodes)
	_ = leader.stop(syscall.SIGKILL)
	var rest []*process
	for _, p := range nodes {
		if p != leader {
			rest = append(rest, p)
		}
	}
	rest[0].until("another leader", func(s node.Status) bool {
		return s.Control.Leader != "" && s.Control.Leader != leader.name
	})
	changed := testPolicy + "blocklist: [203.0.113.0/24]\n"
	apply(t, binary, rest[0], changed)

	leader.start()
	s := leader.until("the policy of the time it was dead", func(s node.Status) bool { return s.PolicyVersion >= 4 })
	if s.Node != leader.name {
		t.Fatalf("restarted as %s", s.Node)
	}
	out, err := tern(t, binary, "policy", "history", "--admin", leader.admin)
	if err != nil || strings.Count(out, "by socket") != 4 {
		t.Errorf("history lost a change: %v\n%s", err, out)
	}
	if strings.Contains(out, testCertificate) {
		t.Error("the history shows a secret")
	}
	out, err = tern(t, binary, "policy", "get", "--admin", leader.admin)
	if err != nil || !strings.Contains(out, "203.0.113.0/24") || strings.Contains(out, testCertificate) {
		t.Errorf("policy get: %v\n%s", err, out)
	}
	for _, p := range nodes {
		start := time.Now()
		if err := p.stop(syscall.SIGTERM); err != nil {
			t.Errorf("%s did not end cleanly: %v\n%s", p.name, err, p.log)
		}
		if took := time.Since(start); took > node.ShutdownTimeout+time.Second {
			t.Errorf("%s took %v to say goodbye", p.name, took)
		}
		if strings.Contains(p.log.String(), testCertificate) {
			t.Errorf("%s logged a secret", p.name)
		}
	}
}

func alive(s node.Status) (n int) {
	for _, m := range s.Members {
		if m.Alive {
			n++
		}
	}
	return n
}

func leaderOf(nodes []*process) *process {
	s := nodes[0].until("a leader", func(s node.Status) bool { return s.Control.Leader != "" })
	for _, p := range nodes {
		if p.name == s.Control.Leader {
			return p
		}
	}
	nodes[0].t.Fatalf("the leader %q is none of the three", s.Control.Leader)
	return nil
}

func apply(t *testing.T, binary string, p *process, doc string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(file, []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := tern(t, binary, "policy", "apply", "-f", file, "--admin", p.admin); err != nil {
		t.Fatalf("policy apply through %s: %v\n%s\nlog:\n%s", p.name, err, out, p.log)
	}
}

func TestACorruptDataDirectoryIsRefusedWithTheFileAndTheRemedy(t *testing.T) {
	if testing.Short() {
		t.Skip("three processes take some seconds")
	}
	binary := buildTern(t)
	nodes := startMesh(t, binary)
	nodes[0].until("a leader", func(s node.Status) bool { return s.Control.Leader != "" && alive(s) == 3 })
	apply(t, binary, nodes[0], testPolicy)
	nodes[2].until("the policy", func(s node.Status) bool { return s.PolicyVersion >= 1 })
	_ = nodes[2].stop(syscall.SIGKILL)
	file := filepath.Join(nodes[2].dir, "data", "policy.bin")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 0xff
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := tern(t, binary, "node", "--config", filepath.Join(nodes[2].dir, "node.yaml"))
	if err == nil || !strings.Contains(out, "policy.bin") {
		t.Errorf("a corrupt policy.bin: %v\n%s", err, out)
	}
}

// lockedBuffer collects a process's output; the writer is os/exec's goroutine.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func TestTheDatagramCarrierWorksToo(t *testing.T) {
	if testing.Short() {
		t.Skip("three processes take some seconds")
	}
	binary := buildTern(t)
	nodes := startMesh(t, binary, "carrier: datagram", "log: {format: json}")
	nodes[0].until("a leader", func(s node.Status) bool { return s.Control.Leader != "" && alive(s) == 3 })
	apply(t, binary, nodes[2], testPolicy)
	publishAndWatch(t, nodes[1], nodes[2])
	for i, line := range strings.Split(strings.TrimSpace(nodes[1].log.String()), "\n") {
		if !json.Valid([]byte(line)) {
			t.Errorf("line %d of the log is not JSON: %s", i, line)
		}
	}
}
