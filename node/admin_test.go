package node

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestTheAdminListenerIsNotForForeignPages(t *testing.T) {
	ok := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	for name, c := range map[string]struct {
		host, origin string
		want         int
		remote       bool // the listener is not on loopback
	}{
		"by address":          {"127.0.0.1:7902", "", http.StatusOK, false},
		"by IPv6 address":     {"[::1]:7902", "", http.StatusOK, false},
		"by localhost":        {"localhost:7902", "", http.StatusOK, false},
		"its own page":        {"127.0.0.1:7902", "http://127.0.0.1:7902", http.StatusOK, false},
		"a name that rebinds": {"evil.example:7902", "", http.StatusForbidden, false},
		"a foreign page":      {"127.0.0.1:7902", "http://evil.example", http.StatusForbidden, false},
		"a name elsewhere":    {"fra.example:7902", "", http.StatusOK, true},
		"a page, elsewhere":   {"fra.example:7902", "http://evil.example", http.StatusForbidden, true},
		"no origin worth it":  {"127.0.0.1:7902", "null", http.StatusForbidden, false},
	} {
		r := httptest.NewRequest(http.MethodPut, "/v1/policy", nil)
		r.Host = c.host
		local := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}
		if c.remote {
			local.IP = net.IPv4(192, 0, 2, 1)
		}
		r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, local))
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		w := httptest.NewRecorder()
		sameOrigin(ok).ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%s: %d, want %d", name, w.Code, c.want)
		}
	}
}

func TestTheIncarnationGrowsWithEveryStart(t *testing.T) {
	dir := t.TempDir()
	now := time.Unix(1_800_000_000, 0)
	var last uint32
	for i, at := range []time.Time{now, now, now.Add(-time.Hour), now.Add(time.Hour)} {
		next, err := nextIncarnation(dir, at)
		if err != nil || next <= last {
			t.Fatalf("start %d: %d after %d, %v", i, next, last, err)
		}
		last = next
	}
	if last != uint32(now.Add(time.Hour).Unix()) {
		t.Errorf("%d does not follow the clock", last)
	}
	if err := os.WriteFile(filepath.Join(dir, "incarnation"), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := nextIncarnation(dir, now); err == nil {
		t.Error("garbage was read as a number")
	}
}
