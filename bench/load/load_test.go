package load

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ternmesh/tern/bench/fanout"
)

func server(t *testing.T) string {
	t.Helper()
	s, err := fanout.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(s)
	t.Cleanup(func() { web.Close(); s.Close() })
	return web.URL
}

func TestLoadAgainstAServerThatIsNotTern(t *testing.T) {
	url := server(t)
	r, err := Run(context.Background(), Config{
		Publishers: 2, Viewers: 3, WHIP: url + "/whip/s{n}", WHEP: url + "/whep/s{n}", Size: 200, Rate: 50, Burst: 2, For: time.Second, PID: os.Getpid(),
	})
	if err != nil {
		t.Fatal(err)
	}
	// Publisher 0 has two viewers, publisher 1 has one: 50 packets each in a second, and what was late at its beginning.
	if r.Sent < 60 || float64(r.Sent) > 150*(r.Seconds+1) || r.Delivered == 0 || r.Delivered > r.Sent || r.LostSessions != 0 || r.Foreign != 0 {
		t.Errorf("%+v: want about 150 sent to viewers, and no more delivered", r)
	}
	if r.Latency.P50 <= 0 || r.ViewerJoin.Max <= 0 || r.Server == nil || r.Server.MicrosPerPacket <= 0 || r.Server.MemoryMB <= 0 {
		t.Errorf("latency %+v, joins %+v, server %+v: want all measured", r.Latency, r.ViewerJoin, r.Server)
	}
	total := int64(0)
	for _, b := range r.LatencyHistogram {
		total += b.Count
	}
	if total != int64(r.Delivered) {
		t.Errorf("the histogram holds %d packets of %d", total, r.Delivered)
	}
	var b bytes.Buffer
	var doc map[string]any
	if err := r.WriteJSON(&b); err != nil || json.Unmarshal(b.Bytes(), &doc) != nil || doc["latency_ms"] == nil {
		t.Errorf("JSON: %v %s", err, b.String())
	}
	if !strings.Contains(r.Summary(), "one-way latency") || !strings.Contains(r.Summary(), "processor time") {
		t.Errorf("summary:\n%s", r.Summary())
	}
}

func TestNewcomersJoinInTheWindowAndLeave(t *testing.T) {
	url := server(t)
	r, err := Run(context.Background(), Config{
		Publishers: 1, Viewers: 1, WHIP: url + "/whip/s", WHEP: url + "/whep/s", Size: 200, Rate: 50, Burst: 1, For: time.Second, Joins: 5,
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.Newcomers != 5 || r.FailedJoins != 0 || r.NewcomerJoin.Max <= 0 || r.LostSessions != 0 || !strings.Contains(r.Summary(), "0 of 5 newcomers could not join") {
		t.Errorf("%+v\n%s", r, r.Summary())
	}
}

func TestAJoinThatFailsSaysWhoAndWhy(t *testing.T) {
	s, err := fanout.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var asked atomic.Int64
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/whep/") && asked.Add(1) == 3 {
			cancel() // in the midst of a try
		}
		s.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { web.Close(); s.Close() })
	url := web.URL
	_, err = Run(ctx, Config{Publishers: 1, Viewers: 1, WHIP: url + "/whip/a", WHEP: url + "/whep/other", Size: 100, Rate: 10, Burst: 1, For: time.Second})
	if err == nil || !strings.Contains(err.Error(), "viewer 1 of 1 could not join") || !strings.Contains(err.Error(), "no stream") {
		t.Errorf("got %v", err)
	}
}

func TestEveryMistakeIsReportedAtOnce(t *testing.T) {
	err := Config{Publishers: 2, Viewers: -1, WHIP: "http://h/whip/a", WHEP: "nope", Size: 5, For: time.Millisecond, Warmup: -1, PID: -1}.Validate()
	for _, want := range []string{"viewers: -1", "whip: with 2 publishers the URL needs {n}", `whep: "nope" is not`, "size: 5", "rate and audio", "burst: 0", "warmup", "for: 1ms", "pid: -1"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in: %v", want, err)
		}
	}
	if _, err := Run(context.Background(), Config{Publishers: 1, WHIP: "http://h", Size: 100, Rate: 1, Burst: 1, For: time.Second, PID: 1 << 30}); err == nil || !strings.Contains(err.Error(), "cannot be measured") {
		t.Errorf("a process that is not there: %v", err)
	}
}

func TestStatOfAProcessWithAnOddName(t *testing.T) {
	u, err := parseStat([]byte("7 (a ) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 9 0 100 1000 25 18446744073709551615\n"))
	if err != nil || u.cpu != 2*time.Second || u.memory != 25*uint64(os.Getpagesize()) {
		t.Errorf("%+v (%v), want 2 s and 25 pages", u, err)
	}
	for _, bad := range []string{"", "7 (x) S", "7 (x) S a b c d e f g h i j k l m n o p q r s t u v"} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestAPacketCountsOnceForAViewer(t *testing.T) {
	var s seen
	for i, c := range []struct {
		number uint64
		first  bool
	}{{7, true}, {7, false}, {5, true}, {5, false}, {0, true}, {4095, true}, {6, true}, {4103, true}, {8, true}, {6, false}, {1 << 40, true}, {4103, false}, {1<<40 - 1, true}, {1 << 40, false}, {1<<40 - 4096, false}} {
		if got := s.first(c.number); got != c.first {
			t.Errorf("step %d: packet %d counts as new: %v", i, c.number, got)
		}
	}
}
