package page

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

type fakeMesh struct {
	acted []Action
	err   error
}

func (f *fakeMesh) State() State {
	return State{Cities: []City{{Node: "tokyo", City: "Tokyo", Alive: true}}, Flows: []Flow{}, Events: []Event{}}
}
func (f *fakeMesh) Session() (Session, error) { return Session{App: "demo", Token: "t"}, nil }
func (f *fakeMesh) Act(_ context.Context, a Action) error {
	f.acted = append(f.acted, a)
	return f.err
}

func call(m Mesh, method, path, body string, change func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://127.0.0.1:7999"+path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	Handler(m).ServeHTTP(w, r)
	return w
}

func TestThePageIsServedWholeAndLoadsNothingFromElsewhere(t *testing.T) {
	outside := regexp.MustCompile(`(?i)(src|href|from|import|url)\s*[=(]?\s*["']?(https?:)?//`)
	for path, kind := range map[string]string{
		"/": "text/html", "/style.css": "text/css", "/app.js": "javascript", "/map.js": "javascript",
		"/webrtc.js": "javascript", "/icon.svg": "image/svg+xml",
	} {
		w := call(&fakeMesh{}, "GET", path, "", nil)
		if w.Code != 200 || !strings.Contains(w.Header().Get("Content-Type"), kind) {
			t.Errorf("GET %s: %d, %q, want 200 and %s", path, w.Code, w.Header().Get("Content-Type"), kind)
		}
		if where := outside.FindString(w.Body.String()); where != "" {
			t.Errorf("%s refers to the outside: %s", path, where)
		}
		if !strings.Contains(w.Header().Get("Content-Security-Policy"), "default-src 'self'") {
			t.Errorf("%s has no content security policy", path)
		}
	}
}

func TestEveryElementThatTheScriptNamesIsOnThePage(t *testing.T) {
	html, _ := files.ReadFile("index.html")
	script, _ := files.ReadFile("app.js")
	ids := regexp.MustCompile(`(?:\$\(|press\(|say\(|toggled\()"([a-z-]+)"`).FindAllStringSubmatch(string(script), -1)
	if len(ids) < 15 {
		t.Fatalf("found only %d names in app.js; the pattern of this test is out of date", len(ids))
	}
	for _, id := range ids {
		if !strings.Contains(string(html), `id="`+id[1]+`"`) {
			t.Errorf("app.js uses #%s, which index.html lacks", id[1])
		}
	}
}

func TestStateAndSessionAreJSON(t *testing.T) {
	var s State
	w := call(&fakeMesh{}, "GET", "/api/state", "", nil)
	if err := json.Unmarshal(w.Body.Bytes(), &s); err != nil || len(s.Cities) != 1 || s.Cities[0].City != "Tokyo" {
		t.Errorf("state: %v, %s", err, w.Body)
	}
	if strings.Contains(w.Body.String(), "null") {
		t.Errorf("empty lists must be [], the page iterates over them: %s", w.Body)
	}
	w = call(&fakeMesh{}, "GET", "/api/session", "", nil)
	if got := strings.TrimSpace(w.Body.String()); got != `{"app":"demo","token":"t"}` {
		t.Errorf("session: %s", got)
	}
}

func TestActionsReachTheMeshAndErrorsThePerson(t *testing.T) {
	m := &fakeMesh{}
	if w := call(m, "POST", "/api/action", `{"do":"kill_relay","from":"a","to":"b"}`, nil); w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if want := (Action{Do: KillRelay, From: "a", To: "b"}); len(m.acted) != 1 || m.acted[0] != want {
		t.Errorf("the mesh was told %+v, want %+v", m.acted, want)
	}
	m.err = errors.New("no relay is in use")
	w := call(m, "POST", "/api/action", `{"do":"kill_relay"}`, nil)
	if body, _ := io.ReadAll(w.Body); w.Code != http.StatusConflict || !strings.Contains(string(body), "no relay is in use") {
		t.Errorf("%d %s", w.Code, body)
	}
}

func TestBadRequestsAreRefusedBeforeTheMesh(t *testing.T) {
	for _, c := range []struct {
		what, body string
		change     func(*http.Request)
		want       int
	}{
		{"not JSON", `kill`, nil, 400},
		{"an unknown key", `{"do":"heal","force":true}`, nil, 400},
		{"a huge body", `{"do":"` + strings.Repeat("x", 5000) + `"}`, nil, 400},
		{"a form of another site", `do=heal`, func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") }, 415},
		{"a foreign name for this address", `{"do":"heal"}`, func(r *http.Request) { r.Host = "evil.example:7999" }, 403},
		{"GET", ``, func(r *http.Request) { r.Method = "GET" }, 404},
	} {
		m := &fakeMesh{}
		if w := call(m, "POST", "/api/action", c.body, c.change); w.Code != c.want && !(c.want == 404 && w.Code == 405) {
			t.Errorf("%s: status %d, want %d", c.what, w.Code, c.want)
		}
		if len(m.acted) != 0 {
			t.Errorf("%s reached the mesh: %+v", c.what, m.acted)
		}
	}
	for host, want := range map[string]bool{"127.0.0.1:1": true, "[::1]:1": true, "[::1]": true, "localhost": true, "localhost:80": true, "a.b": false, "": false} {
		if byAddress(host) != want {
			t.Errorf("Host %q taken: %v, want %v", host, !want, want)
		}
	}
}
