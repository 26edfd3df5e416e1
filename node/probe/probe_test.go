package probe

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestAPacketBecomesAnArrivalAndARecord(t *testing.T) {
	packet := make([]byte, MinBytes)
	sent, came := time.Unix(1, 5), time.Unix(2, 7)
	stamp(packet, 77, sent)
	a, ok := read(packet, came)
	if !ok || a != (Arrival{Number: 77, Sent: sent.UnixNano(), At: came.UnixNano()}) {
		t.Errorf("%+v, %v", a, ok)
	}
	back := Arrivals(append(a.append(a.append(nil)), 1, 2, 3))
	if len(back) != 2 || back[1] != a {
		t.Errorf("two records and a rest came back as %+v", back)
	}
	packet[headerBytes]++
	if _, ok := read(packet, came); ok {
		t.Error("a packet of somebody else was taken")
	}
}

func FuzzRead(f *testing.F) {
	packet := make([]byte, MinBytes)
	stamp(packet, 1, time.Unix(1, 0))
	f.Add(packet)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, ok := read(b, time.Unix(1, 0)); ok && len(Arrivals(a.append(nil))) != 1 {
			t.Error("an arrival has no record")
		}
		_ = Arrivals(b)
	})
}

// ask serves one request at a prober without a hub: nothing here may get as far as that.
func ask(t *testing.T, p *Prober, r Request) Answer {
	t.Helper()
	request, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var a Answer
	if err := json.Unmarshal(p.Serve(context.Background(), request), &a); err != nil {
		t.Fatal(err)
	}
	return a
}

func TestWrongRequestsAreAnsweredWithAllThatIsWrong(t *testing.T) {
	p := New(nil)
	a := ask(t, p, Request{Op: Send, ID: "Bad ID", PacketsPerSecond: 0, Bytes: 5, For: time.Millisecond})
	for _, want := range []string{`id "Bad ID"`, "0 packets a second", "packets of 5 bytes", "for 1ms"} {
		if !strings.Contains(a.Error, want) {
			t.Errorf("no %q in %q", want, a.Error)
		}
	}
	if a := ask(t, p, Request{Op: "dance", ID: "x"}); !strings.Contains(a.Error, "not one of clock") {
		t.Errorf("%+v", a)
	}
	if a := ask(t, p, Request{Op: Collect, ID: "x"}); !strings.Contains(a.Error, "no probe x here") {
		t.Errorf("%+v", a)
	}
	if a := ask(t, p, Request{Op: Clock}); a.Error != "" || time.Since(time.Unix(0, a.Now)) > time.Minute {
		t.Errorf("the clock: %+v", a)
	}
	var got Answer
	if err := json.Unmarshal(p.Serve(context.Background(), []byte("{")), &got); err != nil || got.Error == "" {
		t.Errorf("rubbish was answered with %+v (%v)", got, err)
	}
}

func TestEndsAreBounded(t *testing.T) {
	p := New(nil)
	for range maxEnds {
		p.ends[string(rune('a'+len(p.ends)))] = &end{}
	}
	if a := ask(t, p, Request{Op: Listen, ID: "new"}); !strings.Contains(a.Error, "probes run here already") {
		t.Errorf("%+v", a)
	}
	if a := ask(t, p, Request{Op: Listen, ID: "a"}); !strings.Contains(a.Error, "a probe a is here already") {
		t.Errorf("%+v", a)
	}
	e := &end{request: Request{ID: "x"}, records: make([]byte, maxArrivals*recordBytes)}
	packet := make([]byte, MinBytes)
	stamp(packet, 1, time.Now())
	e.Write(0, packet)
	e.Write(0, packet[:5])
	if got, _ := e.collect(); got.Dropped != 1 || got.Foreign != 1 {
		t.Errorf("dropped %d, foreign %d: want one of each", got.Dropped, got.Foreign)
	}
}
