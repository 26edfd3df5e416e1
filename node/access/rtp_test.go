package access

import (
	"context"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestRTPPortsThatCannotBeOpened(t *testing.T) {
	var failure error
	w := newWorld(t, func(c *Config) {
		c.ListenRTP = func(context.Context) (rtp, rtcp net.PacketConn, err error) { return nil, nil, failure }
	})
	for _, tc := range []struct {
		err           error
		level, reason string
	}{
		{fmt.Errorf("ports 1 to 2: %w", syscall.EADDRINUSE), "INFO", "rtp_ports"},
		{fmt.Errorf("open the port: %w", syscall.EMFILE), "ERROR", "rtp_listen"},
	} {
		failure = tc.err
		res := w.do("POST", "/v1/apps/open/channels/room/rtp", "", "Content-Type", typeJSON)
		if res.code != 503 || strings.Contains(res.body, "detail") || res.header.Get("Retry-After") == "" {
			t.Errorf("%v: the client gets %d %s, want 503 without detail", tc.err, res.code, res.body)
		}
		want := fmt.Sprintf("level=%s msg=\"request refused\" status=503 reason=%s", tc.level, tc.reason)
		if !strings.Contains(w.log.String(), want) || !strings.Contains(w.log.String(), tc.err.Error()) {
			t.Errorf("%v: the log does not say %s\n%s", tc.err, want, w.log)
		}
	}
}

// ingests counts what the quota holds.
func (w *world) ingests(app string) int {
	w.a.ingests.mu.Lock()
	defer w.a.ingests.mu.Unlock()
	return w.a.ingests.apps[app]
}

func TestRTPIngestsHaveAQuota(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.MaxSessions, c.MaxRTPPerSource = 12, 4 }) // 3 per app
	open := func(app string) answer {
		return w.do("POST", "/v1/apps/"+app+"/channels/room/rtp", "", "Content-Type", typeJSON, "Authorization", "Bearer "+w.publisherToken("room"))
	}
	var last answer
	for range 3 {
		if last = open("open"); last.code != 201 {
			t.Fatalf("%d %s", last.code, last.body)
		}
	}
	if res := open("open"); res.code != 429 || !strings.Contains(res.body, "this app has 3 RTP sessions open") {
		t.Errorf("the fourth of an app: %d %s", res.code, res.body)
	}
	if res := open("demo"); res.code != 201 {
		t.Errorf("the first of another app: %d %s", res.code, res.body)
	}
	if res := open("demo"); res.code != 429 || !strings.Contains(res.body, "this address has 4 RTP sessions open") {
		t.Errorf("the fifth of an address: %d %s", res.code, res.body)
	}
	if res := w.do("DELETE", last.header.Get("Location"), ""); res.code != 200 {
		t.Fatalf("DELETE: %d", res.code)
	}
	w.until("its place is free", func() bool { return w.ingests("open") == 2 })
	if res := open("open"); res.code != 201 {
		t.Errorf("after one is gone: %d %s", res.code, res.body)
	}
	w.a.round(w.a.now().Add(firstFor + time.Second))
	w.until("ingests that never got a packet give all places back", func() bool { return w.ingests("open")+w.ingests("demo") == 0 })
	if n := w.a.Stats().Ended[Event{kindRTP, "no_first_packet"}]; n != 4 {
		t.Errorf("%d ended for want of a first packet, want 4", n)
	}
}

func TestRefusedRTPIngestsGiveTheirPlaceBack(t *testing.T) {
	w := newWorld(t, nil)
	for range 2 * DefaultMaxRTPPerSource {
		if res := w.do("POST", "/v1/apps/fenced/channels/room/rtp", "", "Content-Type", typeJSON); res.code != 403 {
			t.Fatalf("%d %s, want the fence's refusal", res.code, res.body)
		}
		w.until("the place is free", func() bool { return w.ingests("fenced") == 0 })
	}
}
