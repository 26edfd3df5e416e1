package access

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestSlowPatchHoldsUpNobodyElse(t *testing.T) {
	w := newWorld(t, nil)
	_, res := w.joined(t)
	url := res.header.Get("Location")
	body, feed := io.Pipe()
	req, err := http.NewRequest("PATCH", w.http.URL+url, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", typeFrag)
	done := make(chan error, 1)
	go func() {
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			err = res.Body.Close()
		}
		done <- err
	}()
	if _, err := feed.Write([]byte("a=ice-")); err != nil { // taken by the transport: the request is under way
		t.Fatal(err)
	}
	quick := &http.Client{Timeout: patience}
	for _, method := range []string{"GET", "PATCH"} {
		req, err := http.NewRequest(method, w.http.URL+url, strings.NewReader(""))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", typeFrag)
		other, err := quick.Do(req)
		if err != nil {
			t.Fatalf("%s of the session while another client's PATCH dawdles: %v", method, err)
		}
		_ = other.Body.Close()
	}
	_ = feed.Close()
	if err := <-done; err != nil {
		t.Errorf("the slow PATCH: %v", err)
	}
}

func TestSessionURLsTellStrangersNothing(t *testing.T) {
	w := newWorld(t, nil)
	_, res := w.joined(t)
	id := strings.TrimPrefix(res.header.Get("Location"), "/whip/s/")
	unknown := strings.Repeat("0", len(id))
	for _, method := range []string{"GET", "HEAD", "DELETE", "PATCH"} {
		var first string
		for _, path := range []string{"/whip/s/" + unknown, "/whip/s/x", "/whip/s/" + id[:8], "/whep/s/" + id, "/whep/s/" + unknown} {
			res := w.do(method, path, "", "Content-Type", typeFrag)
			res.header.Del("Date")
			got := strings.Join([]string{res.body, res.header.Get("ETag"), res.header.Get("Location"), http.StatusText(res.code)}, "|")
			if first == "" {
				first = got
			}
			if res.code != 404 || got != first {
				t.Errorf("%s %s: %d %q, want 404 like everywhere: %q", method, path, res.code, got, first)
			}
		}
	}
	if n := w.a.Stats().Sessions[kindWHIP]; n != 1 {
		t.Errorf("%d sessions are left of 1", n)
	}
}

// Neither many fragments nor many generations make a node probe more addresses than one client may have.
func TestPatchesOfOneSessionAreBounded(t *testing.T) {
	w := newWorld(t, nil)
	_, res := w.joined(t)
	url := res.header.Get("Location")
	s := w.a.session(kindWHIP, strings.TrimPrefix(url, "/whip/s/"))
	s.restarts.SetLimit(0) // the burst alone: the test may be slow
	patch := func(credentials string, first int) answer {
		var b strings.Builder
		b.WriteString(credentials + "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\n")
		for port := first; port < first+maxCandidates/2; port++ {
			fmt.Fprintf(&b, "a=candidate:1 1 udp 1 127.0.0.1 %d typ host\r\n", port)
		}
		return w.do("PATCH", url, b.String(), "Content-Type", typeFrag, "If-Match", "*")
	}
	known := func() int {
		s.negotiation.Lock()
		defer s.negotiation.Unlock()
		return len(s.trickled)
	}
	for i, want := range []int{1, 1, 2, 2, 2} { // halves: the first comes twice
		if res := patch("", 1000+max(0, i-1)*maxCandidates/2); res.code != 204 || known() != want*maxCandidates/2 {
			t.Errorf("fragment %d: %d, %d candidates, want 204, %d", i, res.code, known(), want*maxCandidates/2)
		}
	}
	for i := range restartBurst + 1 {
		res := patch(fmt.Sprintf("a=ice-ufrag:gen%d\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n", i), 1000)
		switch {
		case i < restartBurst && (res.code != 200 || known() != 0):
			t.Errorf("restart %d: %d %s, %d candidates, want 200 and none", i, res.code, res.body, known())
		case i == restartBurst && (res.code != 429 || res.header.Get("Retry-After") == ""):
			t.Errorf("one restart more: %d, want 429 and when to come again", res.code)
		}
	}
	if r := w.a.Stats().Refused; r["restart_rate"] != 1 {
		t.Errorf("counted %v, want one restart", r)
	}
	if res := patch("", 1000); res.code != 204 || known() != maxCandidates/2 {
		t.Errorf("a new generation: %d, %d candidates", res.code, known())
	}
}

// A node that has no time for an answer says so: the offer may be a good one.
func TestSlowAnswerIsNoFaultOfTheOffer(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := httptest.NewRequest("POST", "/whip/open/room", nil)
	otherwise := bad("bad_sdp", "", nil)
	if p := slowOr(r, fmt.Errorf("%w: gather", errSlow), otherwise); p.status != 503 || p.retryAfter == 0 {
		t.Errorf("%+v", p)
	}
	if p := slowOr(r, errBadSDP, otherwise); p != otherwise {
		t.Errorf("%+v", p)
	}
	if p := slowOr(r.WithContext(ctx), errSlow, otherwise); p.reason != "gone" {
		t.Errorf("%+v", p)
	}
}
