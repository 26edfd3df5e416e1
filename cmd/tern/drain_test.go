package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ternmesh/tern/node"
	"github.com/ternmesh/tern/node/access/token"
)

// TestDrainOfALeaderWithAPublisher goes through a drain as an operator does, with the built binary.
func TestDrainOfALeaderWithAPublisher(t *testing.T) {
	if testing.Short() {
		t.Skip("three processes take some seconds")
	}
	binary := buildTern(t)
	nodes := startMesh(t, binary)
	for _, p := range nodes {
		p.until("three members and a leader", func(s node.Status) bool { return alive(s) == 3 && s.Control.Leader != "" })
	}
	apply(t, binary, nodes[1], testPolicy)
	for _, p := range nodes {
		p.until("policy 1 in force", func(s node.Status) bool { return s.PolicyVersion >= 1 })
	}
	leader := leaderOf(nodes)
	other := nodes[0]
	if other == leader {
		other = nodes[1]
	}
	ingest := func() *http.Response { return askIngest(t, leader) }
	first := ingest()
	if first.StatusCode != http.StatusCreated {
		t.Fatalf("before the drain: %s", first.Status)
	}
	if out, err := tern(t, binary, "drain", "nobody", "--admin", other.admin); err == nil || !strings.Contains(out, "not a member") {
		t.Errorf("a node that nobody knows: %v\n%s", err, out)
	}
	out, err := tern(t, binary, "drain", leader.name, "--deadline", "4s", "--wait", "2m", "--admin", other.admin)
	if err != nil || !strings.Contains(out, leader.name+": drained") || !strings.Contains(out, "nothing is left on it") {
		t.Fatalf("drain: %v\n%s", err, out)
	}
	s := leader.until("drained, without a session and without raft's office", func(s node.Status) bool {
		return s.State == node.StateDrained && s.Access.Sessions["rtp"] == 0 && s.Control.Leader != leader.name && s.Control.Leader != ""
	})
	if s.Drain == nil || s.Drain.Deadline.IsZero() {
		t.Errorf("the status does not show the drain: %+v", s.Drain)
	}
	if code := readiness(t, leader); code != http.StatusServiceUnavailable {
		t.Errorf("/readyz of a drained node answers %d", code)
	}
	second := ingest()
	if to := second.Header.Get("Location"); second.StatusCode != http.StatusTemporaryRedirect || strings.HasPrefix(to, s.AccessURL) || !strings.HasSuffix(to, "/rtp") {
		t.Errorf("a new session is answered with %s to %q", second.Status, to)
	}
	if out, err := tern(t, binary, "undrain", leader.name, "--admin", leader.admin); err != nil || !strings.Contains(out, "serving") {
		t.Fatalf("undrain: %v\n%s", err, out)
	}
	leader.until("serving again", func(s node.Status) bool { return s.State == node.StateServing && s.Drain == nil })
	if code := readiness(t, leader); code != http.StatusOK {
		t.Errorf("/readyz answers %d after undrain", code)
	}
	back := ingest()
	if back.StatusCode != http.StatusCreated {
		t.Errorf("after undrain: %s", back.Status)
	}
	defer keepSending(t, back)() // a session without a packet ends after some seconds
	if out, err := tern(t, binary, "cordon", leader.name, "--admin", other.admin); err != nil || !strings.Contains(out, "cordoned") {
		t.Fatalf("cordon: %v\n%s", err, out)
	}
	leader.until("cordoned, with its session", func(s node.Status) bool {
		return s.State == node.StateCordoned && s.Access.Sessions["rtp"] == 1
	})
	apply(t, binary, other, testPolicy) // a file that does not speak of nodes
	if s := leader.until("the next policy", func(s node.Status) bool { return s.PolicyVersion >= 5 }); s.State != node.StateCordoned {
		t.Errorf("applying a document that does not name nodes made it %s", s.State)
	}
}

// askIngest asks a node for a plain RTP ingest and shows the answer, redirects included.
func askIngest(t *testing.T, p *process) *http.Response {
	t.Helper()
	s, err := p.status()
	if err != nil {
		t.Fatal(err)
	}
	url := s.AccessURL + "/v1/apps/" + testApp + "/channels/stage/rtp"
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+newToken(t, token.FormatJWT, "stage", token.CanPublishAudio, token.CanPublishVideo))
	stay := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := stay.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	_, resp.Body = resp.Body.Close(), io.NopCloser(bytes.NewReader(body))
	return resp
}

// keepSending sends RTP into an ingest, by what it answered, until the returned function is called.
func keepSending(t *testing.T, ingest *http.Response) (stop func()) {
	t.Helper()
	sdp, _ := io.ReadAll(ingest.Body)
	port := regexp.MustCompile(`m=video (\d+)`).FindSubmatch(sdp)
	if port == nil {
		t.Fatalf("the ingest answered %s", sdp)
	}
	conn, err := net.Dial("udp", net.JoinHostPort("127.0.0.1", string(port[1])))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer conn.Close()
		packet := append([]byte{0x80, 96}, make([]byte, 100)...)
		for tick := time.NewTicker(100 * time.Millisecond); ; packet[3]++ {
			_, _ = conn.Write(packet)
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	return func() { cancel(); <-done }
}

// readiness asks a node whether clients should be sent there.
func readiness(t *testing.T, p *process) int {
	t.Helper()
	resp, err := http.Get("http://" + p.listen + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}
