package report

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
)

const ms = time.Millisecond

func TestOnlyPacketsSentAfterTheWarmUpCount(t *testing.T) {
	s := NewStream()
	s.Sent("video", 10, 0)
	s.Sent("audio", 10, 0)
	s.Delivered("video", 10, 50*ms)
	s.Count()
	s.Sent("video", 11, 100*ms)
	s.Sent("audio", 11, 100*ms)
	s.Delivered("audio", 10, 110*ms) // sent before, arrives after
	s.Delivered("video", 11, 150*ms)
	got := s.Totals()
	if got.Sent != 2 || got.Delivered != 1 || got.Duplicates != 0 || got.Strangers != 0 {
		t.Errorf("%+v, want 2 sent (one each), 1 delivered", got)
	}
	if got.Latency.Max != 50 {
		t.Errorf("latency %v, want 50 ms", got.Latency)
	}
}

func TestSequenceNumbersWrapAndArriveInAnyOrder(t *testing.T) {
	s := NewStream()
	s.Count()
	const count = 200_000 // three times around
	deliver := func(i int) { s.Delivered("video", uint16(65_000+i), time.Duration(i)*ms+80*ms) }
	for i := range count {
		s.Sent("video", uint16(65_000+i), time.Duration(i)*ms)
		switch {
		case i >= 200 && i%2 == 1:
			deliver(i - 200) // pairs arrive swapped
		case i >= 200:
			deliver(i - 198)
		}
	}
	got := s.Totals()
	if got.Strangers != 0 || got.Duplicates != 0 || got.Delivered < count-210 {
		t.Errorf("%+v of %d", got, count)
	}
}

func TestTheFirstNumberMayBeZeroAndAnEarlierOneIsAStranger(t *testing.T) {
	s := NewStream()
	s.Delivered("video", 5, 0) // nothing was sent yet
	s.Count()
	s.Sent("video", 0, 0)
	s.Delivered("video", 65_535, ms)
	s.Delivered("video", 0, ms)
	s.Delivered("video", 0, 2*ms)
	if got := s.Totals(); got.Delivered != 1 || got.Strangers != 2 || got.Duplicates != 1 {
		t.Errorf("%+v, want 1 delivered, 2 strangers, 1 duplicate", got)
	}
}

func TestPercentilesAreNearestRank(t *testing.T) {
	var l []time.Duration
	for i := 200; i >= 1; i-- {
		l = append(l, time.Duration(i)*ms)
	}
	if got, want := summarise(l), (Latency{P50: 100, P99: 198, Max: 200}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := summarise([]time.Duration{7 * ms}); got != (Latency{7, 7, 7}) {
		t.Errorf("one packet gives %v", got)
	}
	if got := summarise(nil); got != (Latency{}) {
		t.Errorf("no packets give %v", got)
	}
}

func TestPathsKeepTheDeadAndSurviveARestartOfTheirCounters(t *testing.T) {
	p := NewPaths()
	direct, relayed := []string{"a", "b"}, []string{"a", "r", "b"}
	p.Outgoing(direct, 100)
	p.Incoming(direct, 1, 90, 0)
	p.Outgoing(relayed, 100)
	p.Incoming(relayed, 0, 10, 1)
	p.Count()
	p.Outgoing(direct, 300)
	p.Incoming(direct, 3, 250, 4)
	p.Outgoing(relayed, 150) // then it died and was seen no more
	p.Incoming(relayed, 50, 12, 3)
	p.Outgoing(direct, 20) // the session was made anew
	p.Incoming(direct, 0, 20, 0)
	p.Outgoing([]string{"a", "idle", "b"}, 0)
	got := p.List()
	if len(got) != 2 {
		t.Fatalf("%d paths, want the two that carried something: %+v", len(got), got)
	}
	if g := got[0]; g.Sent != 220 || g.Lost != 2 || g.First != 180 || g.Rescued != 4 {
		t.Errorf("direct path %+v, want 220 sent, 2 lost, 180 first, 4 rescued since the warm-up", g)
	}
	if g := got[1]; g.Sent != 50 || g.Lost != 50 || g.First != 2 || g.Rescued != 2 {
		t.Errorf("dead path %+v, want 50 sent, 50 lost, 2 first, 2 rescued", g)
	}
}

func TestTheDocumentHasTheAgreedKeys(t *testing.T) {
	r := Build(Totals{Sent: 1000, Delivered: 999, Latency: Latency{80, 90, 120}}, 1998,
		[]Path{{Hops: []string{"a", "r", "b"}, Sent: 1000, Lost: 2, First: 400, Rescued: 1}},
		[]Event{{AtSeconds: 8, What: "kill", Node: "r"}})
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"sent":1000,"delivered":999,"undelivered_ratio":0.001,"latency_ms":{"p50":80,"p99":90,"max":120},` +
		`"duplicates_dropped":1998,"paths":[{"hops":["a","r","b"],"sent":1000,"lost":2,"first":400,"rescued":1}],` +
		`"events":[{"at_seconds":8,"what":"kill","node":"r"}]}`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
	var out strings.Builder
	r.Print(&out)
	if !strings.Contains(out.String(), "a > r > b") || !strings.Contains(out.String(), "0.1000 %") {
		t.Errorf("the printed report lacks the path or the loss:\n%s", out.String())
	}
}

func TestCheckFailsOnAnyLoss(t *testing.T) {
	for _, c := range []struct {
		what            string
		sent, delivered uint64
		want            string
	}{
		{"everything arrived", 1000, 1000, ""},
		{"one packet lost", 1000, 999, "1 of 1000"},
		{"nothing sent", 0, 0, "no packet"},
		{"too few sent", 50, 50, "only 50"},
	} {
		err := Build(Totals{Sent: c.sent, Delivered: c.delivered}, 0, nil, nil).Check(100)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.what, err, c.want)
		}
	}
	if err := (Report{Sent: 200}).Check(100); !errors.Is(err, ErrLost) {
		t.Errorf("loss is not ErrLost: %v", err)
	}
}
