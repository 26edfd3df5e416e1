package ebpf

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

// script is a conn that hands out datagrams and then ends.
type script struct {
	net.PacketConn
	from  []string
	queue [][]byte
}

func (s *script) ReadFrom(p []byte) (int, net.Addr, error) {
	if len(s.queue) == 0 {
		return 0, nil, os.ErrDeadlineExceeded
	}
	n := copy(p, s.queue[0])
	from := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(s.from[0]))
	s.from, s.queue = s.from[1:], s.queue[1:]
	return n, from, nil
}

func goFilter(t *testing.T, log *bytes.Buffer) *Filter {
	t.Helper()
	f, err := New(Config{
		Mode: ModeGo, MeshPort: testMesh, AccessPort: testAccess, Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestWrappedConnHandsOutOnlyWhatPasses(t *testing.T) {
	f := goFilter(t, &bytes.Buffer{})
	if err := f.Update(Rules{Blocklist: testRules().Blocklist}); err != nil {
		t.Fatal(err)
	}
	conn := f.WrapPacketConn(&script{
		from:  []string{"203.0.113.5:1", "198.18.0.1:2", "198.18.0.1:3", "198.18.0.1:4"},
		queue: [][]byte{sampleRTP(9), sampleRTP(9), {99}, bytesOf(13, 22)},
	}, testAccess)
	var ports []int
	p := make([]byte, 100)
	for {
		_, from, err := conn.ReadFrom(p)
		if err != nil {
			break
		}
		ports = append(ports, from.(*net.UDPAddr).Port)
	}
	if len(ports) != 2 || ports[0] != 2 || ports[1] != 4 {
		t.Errorf("datagrams from ports %v passed, want 2 and 4", ports)
	}
	s := f.Stats()
	if s.Dropped(ReasonBlocklist) != 1 || s.Dropped(ReasonBadClass) != 1 || s.Rules != 3 || s.Updates != 1 {
		t.Errorf("stats: %+v", s)
	}
}

func TestRefusedRulesLeaveTheOldOnes(t *testing.T) {
	f := goFilter(t, &bytes.Buffer{})
	if err := f.Update(Rules{Blocklist: testRules().Blocklist}); err != nil {
		t.Fatal(err)
	}
	if err := f.Update(Rules{Blocklist: prefixes("0.0.0.0/0")}); err == nil {
		t.Error("a rule that blocks everything was taken")
	}
	if v := f.Allow(addr("203.0.113.5")); v.Action != Drop {
		t.Errorf("the old rules are gone: %v", v)
	}
	if v := f.Allow(good4); v.Action != Pass {
		t.Errorf("the refused rules are in force: %v", v)
	}
	if n := f.Stats().UpdateFailures; n != 1 {
		t.Errorf("%d failures counted, not 1", n)
	}
}

func TestGoModeSaysSoOnceAndEndsWithItsContext(t *testing.T) {
	var log bytes.Buffer
	f := goFilter(t, &log)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := f.Run(ctx); err != nil {
		t.Errorf("Run: %v", err)
	}
	if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "mode=go twin_in_path=true") {
		t.Errorf("the start is not one line that names the mode:\n%s", text)
	}
	if f.Mode() != ModeGo || !f.TwinActive() {
		t.Errorf("mode %s, twin %v", f.Mode(), f.TwinActive())
	}
}

func TestFullTablesAreAnAlarmOnce(t *testing.T) {
	var log bytes.Buffer
	f := goFilter(t, &log)
	f.recheck()
	if f.Overflowed(time.Hour) {
		t.Error("an alarm before anything happened")
	}
	for i := range 3 {
		f.SetMembers(make([]netip.Addr, 1))
		f.guard.stats.PeersRefused += uint64(i + 1)
		f.recheck()
	}
	if !f.Overflowed(time.Hour) {
		t.Error("no overflow within the hour")
	}
	if text := log.String(); strings.Count(text, "event=table_full") != 1 || !strings.Contains(text, "peers_refused=1") {
		t.Errorf("the log:\n%s", text)
	}
}

func TestPortsThatTheSystemGives(t *testing.T) {
	f := goFilter(t, &bytes.Buffer{})
	if err := f.Update(Rules{Blocklist: testRules().Blocklist}); err != nil {
		t.Fatal(err)
	}
	if err := f.SetPorts(testMesh, 40001); err != nil {
		t.Fatal(err)
	}
	if err := f.Update(Rules{Blocklist: testRules().Blocklist}); err != nil {
		t.Fatal(err)
	}
	src := netip.MustParseAddrPort("203.0.113.5:1")
	if v := f.AllowPacket(src, 40001, sampleRTP(9)); v.Reason != ReasonBlocklist {
		t.Errorf("the new port: %v", v)
	}
	if v := f.AllowPacket(src, testAccess, sampleRTP(9)); v.Reason != ReasonNotOurs {
		t.Errorf("the old port: %v", v)
	}
	if err := f.SetPorts(7, 7); err == nil {
		t.Error("one port twice was taken")
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	logger := slog.New(slog.DiscardHandler)
	for want, cfg := range map[string]Config{
		"logger":        {},
		"not auto, xdp": {Logger: logger, Mode: "kernel"},
		"no interface":  {Logger: logger, Mode: ModeXDP},
		"are both 7":    {Logger: logger, MeshPort: 7, AccessPort: 7},
	} {
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
}

func TestTwinAllocatesNothing(t *testing.T) {
	f := goFilter(t, &bytes.Buffer{})
	if err := f.Update(Rules{Blocklist: testRules().Blocklist}); err != nil {
		t.Fatal(err)
	}
	frame, payload := sample{src: good6, port: testMesh, payload: samplePath(9)}.frame(), samplePath(9)
	table, src := f.Table(), netip.AddrPortFrom(good4, 9)
	if n := testing.AllocsPerRun(100, func() {
		f.AllowPacket(src, testMesh, payload)
		table.Frame(frame)
	}); n != 0 {
		t.Errorf("%v allocations per packet", n)
	}
}

func BenchmarkTwin(b *testing.B) {
	rules, packets := sampleCases()
	table := compile(rules)
	for _, p := range packets {
		b.Run(p.name, func(b *testing.B) {
			for b.Loop() {
				table.Frame(p.frame)
			}
		})
	}
}
