package access

import (
	"strings"
	"testing"
	"time"
)

func TestFloodOfRefusalsIsSummedUp(t *testing.T) {
	var r refusals
	r.init()
	start := time.Unix(1000, 0)
	lines, more, summaries := 0, uint64(0), 0
	for ms := range 30_000 { // 1,000 per second for 30 s
		now := start.Add(time.Duration(ms) * time.Millisecond)
		if r.note("token_missing", now) {
			lines++
		}
		if ms%1000 == 999 { // the round
			for _, n := range r.due(now) {
				more += n
				summaries++
			}
		}
	}
	if lines < 38 || lines > 40 {
		t.Errorf("%d lines in 30 s, want 10 at once and 1 each second", lines)
	}
	if summaries < 2 || summaries > 3 {
		t.Errorf("%d summaries in 30 s, want one every 10 s", summaries)
	}
	if !r.note("token_expired", start.Add(30*time.Second)) {
		t.Error("the flood of one reason hides another")
	}
	for _, n := range r.due(start.Add(50 * time.Second)) {
		more += n
	}
	if got := r.counted()["token_missing"]; got != 30_000 || uint64(lines)+more != got {
		t.Errorf("counted %d, %d lines and %d more: want 30,000 both ways", got, lines, more)
	}
	if left := r.due(start.Add(time.Hour)); len(left) != 0 {
		t.Errorf("summed up twice: %v", left)
	}
}

func TestRefusalsOfRequestsAreLimitedInTheLogOnly(t *testing.T) {
	still := time.Now()
	w := newWorld(t, func(c *Config) { c.Now = func() time.Time { return still } })
	for range 3 * refusalBurst {
		w.post("/whip/demo/room", "", "")
	}
	if n := strings.Count(w.log.String(), "reason=token_missing"); n != refusalBurst {
		t.Errorf("%d lines, want %d", n, refusalBurst)
	}
	w.a.round(still.Add(refusalSumEvery))
	if !strings.Contains(w.log.String(), `msg="more refused for this reason" reason=token_missing more=20`) {
		t.Errorf("no summary in\n%s", w.log)
	}
	if s := w.a.Stats(); s.Refused["token_missing"] != 3*refusalBurst {
		t.Errorf("counted %v", s.Refused)
	}
}
