package gate

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRolesAndRights(t *testing.T) {
	for _, c := range []struct {
		role string
		has  string // which of Operate, ChangeOwn, Read, ReadOwn, ReadMetrics, Everybody
	}{
		{Operator, "111111"}, {Auditor, "001111"}, {App, "010101"}, {Metrics, "000011"}, {"", "000001"}, {"root", "000001"},
	} {
		got := ""
		for r := Operate; r <= Everybody; r++ {
			got += map[bool]string{true: "1", false: "0"}[Caller{Role: c.role}.May(r)]
		}
		if got != c.has {
			t.Errorf("role %q has rights %s, want %s", c.role, got, c.has)
		}
	}
	owner := Caller{Role: App, Apps: []string{"a", "b"}}
	if !owner.Sees("a") || owner.Sees("c") || owner.Sees("") || (Caller{}).Sees("a") || !(Caller{Role: Auditor}).Sees("") {
		t.Error("an app's owner sees its own apps and nothing else")
	}
}

// testGate knows the token "good" of an auditor and every certificate as alice's.
func testGate(t *testing.T, anonymous Caller, denied *[]int) *Gate {
	t.Helper()
	g, err := New(Config{
		Token:       func(token string) (Caller, bool) { return Caller{Name: "bob", Role: Auditor}, token == "good" },
		Certificate: func(c *x509.Certificate) (Caller, bool) { return Caller{Name: "alice", Role: Operator}, c != nil },
		Anonymous:   anonymous,
		Denied:      func(_ *http.Request, _ Caller, status int) { *denied = append(*denied, status) },
		Refuse:      func(w http.ResponseWriter, status int, err error) { http.Error(w, err.Error(), status) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestEveryProofAndItsLack(t *testing.T) {
	certified := &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{}}}}
	root := socketPeer(0)
	stranger := socketPeer(os.Geteuid() + 12345)
	for _, c := range []struct {
		what   string
		token  string
		tls    *tls.ConnectionState
		socket *socketPeer
		anyone Caller
		right  Right
		status int
		who    string
	}{
		{what: "nothing", right: Read, status: 401},
		{what: "nothing, open route", right: Everybody, status: 200, who: "nobody known"},
		{what: "a wrong token", token: "bad", right: Read, status: 401},
		{what: "an empty token", token: " ", right: Read, status: 401},
		{what: "a token", token: "good", right: Read, status: 200, who: "auditor bob by token"},
		{what: "a token without the right", token: "good", right: Operate, status: 403},
		{what: "a certificate", tls: certified, right: Operate, status: 200, who: "operator alice by certificate"},
		{what: "TLS without a certificate", tls: &tls.ConnectionState{}, right: Read, status: 401},
		{what: "a wrong token beside a certificate", token: "bad", tls: certified, right: Read, status: 401},
		{what: "root at the socket", socket: &root, right: Operate, status: 200, who: "operator uid 0 by socket"},
		{what: "another user at the socket", socket: &stranger, right: Read, status: 401},
		{what: "anybody, where that is allowed", anyone: Caller{Name: "anybody", Role: Auditor, By: "config"}, right: Read, status: 200, who: "auditor anybody by config"},
		{what: "anybody wants to act", anyone: Caller{Name: "anybody", Role: Auditor}, right: Operate, status: 403},
	} {
		var denied []int
		who := ""
		h := testGate(t, c.anyone, &denied).Guard(c.right, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { who = From(r.Context()).String() }))
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.TLS = c.tls
		if c.token != "" {
			r.Header.Set("Authorization", "Bearer "+c.token)
		}
		if c.socket != nil {
			r = r.WithContext(context.WithValue(r.Context(), socketKey, *c.socket))
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.status || who != c.who {
			t.Errorf("%s: %d as %q, want %d as %q", c.what, w.Code, who, c.status, c.who)
		}
		if want := fmt.Sprint([]int{c.status}); c.status >= 400 && fmt.Sprint(denied) != want {
			t.Errorf("%s: denials heard of: %v, want %s", c.what, denied, want)
		}
		if c.status == 401 && w.Header().Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("%s: no challenge", c.what)
		}
		if c.token != "" && strings.Contains(w.Body.String(), c.token+" ") {
			t.Errorf("%s: the answer repeats the token", c.what)
		}
	}
}

func TestTheSocketWorksHoweverLongItsPathIs(t *testing.T) {
	for _, dir := range []string{t.TempDir(), filepath.Join(t.TempDir(), strings.Repeat("long", 40))} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "admin.sock")
		var denied []int
		serve := func() *httptest.Server {
			ln, err := Listen(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			s := &httptest.Server{Listener: ln, Config: &http.Server{ConnContext: ConnContext, Handler: testGate(t, Caller{}, &denied).Guard(Operate,
				http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, From(r.Context()), " from ", r.RemoteAddr) }))}}
			s.Start()
			return s
		}
		s := serve()
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		if _, err := Listen(t.Context(), path); err == nil || !strings.Contains(err.Error(), "another process answers") {
			t.Errorf("a second listener: %v", err)
		}
		client, base, err := Target{Address: path}.Client()
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Get(base + "/x")
		if err != nil {
			t.Fatal(err)
		}
		body := make([]byte, 200)
		k, _ := resp.Body.Read(body)
		_ = resp.Body.Close()
		if want := fmt.Sprintf("operator uid %d by socket from uid %d", os.Geteuid(), os.Geteuid()); string(body[:k]) != want {
			t.Errorf("%q, want %q", body[:k], want)
		}
		client.CloseIdleConnections()
		s.Close()
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is left behind: %v", err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Listen(t.Context(), path); err == nil || !strings.Contains(err.Error(), "no socket") {
			t.Errorf("a file in its place: %v", err)
		}
	}
}

func TestTargets(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]string{
		"127.0.0.1:7902": "http://127.0.0.1:7902", "[::1]:7902": "http://[::1]:7902", "localhost:7902": "http://localhost:7902",
		"192.0.2.1:7902": "https://192.0.2.1:7902", "fra.example:7902": "https://fra.example:7902", "https://x/": "https://x",
		"data/admin.sock": "http://tern", "./a:b/c.sock": "http://tern", "admin.sock": "http://tern",
	} {
		_, base, err := Target{Address: address, TokenFile: token}.Client()
		if err != nil || base != want {
			t.Errorf("%s: %q, %v; want %q", address, base, err, want)
		}
	}
	for what, bad := range map[string]Target{
		"no address":             {},
		"in the clear":           {Address: "http://192.0.2.1:7902", TokenFile: token},
		"token file":             {Address: "127.0.0.1:1", TokenFile: "/no/such/file"},
		"both its file and its":  {Address: "192.0.2.1:1", Cert: "x"},
		"CA: open /no/such/file": {Address: "192.0.2.1:1", CA: "/no/such/file"},
	} {
		if _, _, err := bad.Client(); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%+v: %v, want an error that says %q", bad, err, what)
		}
	}
}
