package access

import (
	"net/http"
	"strings"
	"testing"
)

func TestASessionsURLNamesItsNode(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.Self, c.URL = "eu-1", "https://eu-1.example.com"
		c.NodeURL = func(node string) (string, bool) { return "https://" + node + ".example.com:8443", node == "us-2" }
	})
	res := w.opened(kindRTP, w.publisherToken("room"))
	url := res.header.Get("Location")
	if res.code != 201 || !strings.HasPrefix(url, "https://eu-1.example.com/v1/rtp/eu-1.") {
		t.Fatalf("%d %s, Location %q", res.code, res.body, url)
	}
	path := strings.TrimPrefix(url, "https://eu-1.example.com")
	stay := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, tc := range []struct {
		method, path string
		code         int
		location     string
	}{
		{"DELETE", "/whip/s/us-2.0123?x=1", 307, "https://us-2.example.com:8443/whip/s/us-2.0123?x=1"},
		{"PATCH", "/whep/s/us-2.0123", 307, "https://us-2.example.com:8443/whep/s/us-2.0123"},
		{"GET", "/v1/rtp/us-2.0123", 307, "https://us-2.example.com:8443/v1/rtp/us-2.0123"},
		{"DELETE", "/whip/s/nowhere.0123", 404, ""},
		{"DELETE", "/whip/s/eu-1.0123", 404, ""},
		{"DELETE", path, 200, ""},
	} {
		req, err := http.NewRequest(tc.method, w.http.URL+tc.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := stay.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = got.Body.Close()
		if got.StatusCode != tc.code || got.Header.Get("Location") != tc.location {
			t.Errorf("%s %s: %d to %q, want %d to %q", tc.method, tc.path, got.StatusCode, got.Header.Get("Location"), tc.code, tc.location)
		}
	}
}
