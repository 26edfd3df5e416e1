package access

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
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
	quick := &http.Client{Timeout: 5 * time.Second}
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
