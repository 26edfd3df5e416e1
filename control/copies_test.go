package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// signed is a good envelope by signer, to be spoiled.
func signed(t testing.TB, signer string, version uint64, doc []byte) envelope {
	e := envelope{Version: version, Document: doc, Cert: []byte(signer)}
	e.Sig = fakeSig(e.Cert, e.signedBytes())
	return e
}

// follower is a subscriber whose only peer answers with e.
func follower(t *testing.T, e envelope) (*Control, *[]uint64) {
	t.Helper()
	cfg := newMesh(t, 0).config("f1", 0)
	enforced := &[]uint64{}
	cfg.Members = func() []Member { return []Member{{Node: "f9", Alive: true, PolicyVersion: 99}} }
	cfg.Call = func(context.Context, string, []byte) ([]byte, error) { return json.Marshal(answer{Envelope: &e}) }
	cfg.Enforce = func(p Policy) { *enforced = append(*enforced, p.Version) }
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c, enforced
}

func TestFollowerTakesAGoodCopyOnceAndKeepsItOverARestart(t *testing.T) {
	c, enforced := follower(t, signed(t, "v1", 5, storedDoc(t, sampleYAML)))
	c.fetchNow(t.Context())
	c.fetchNow(t.Context())
	if fmt.Sprint(*enforced) != "[5]" || c.Policy().Version != 5 {
		t.Fatalf("enforced %v", *enforced)
	}
	again, err := New(c.cfg)
	if err != nil || again.Policy().Version != 5 || again.Policy().Apps[0].Certificates[0] != secretA {
		t.Fatalf("after a restart: version %d, %v", again.Policy().Version, err)
	}
}

// A peer's delta is for a document that this node does not have, under the same number: it takes the whole document.
func TestADeltaForAnotherDocumentIsNoLoss(t *testing.T) {
	mine, theirs, next := storedDoc(t, sampleYAML), []byte(`{"regions":[],"apps":[],"blocklist":[]}`), []byte(`{"regions":[{"id":"eu"}],"apps":[],"blocklist":[]}`)
	c, enforced := follower(t, signed(t, "v1", 5, mine))
	c.fetchNow(t.Context())
	asked := 0
	c.cfg.Call = func(_ context.Context, _ string, b []byte) ([]byte, error) {
		var req request
		if err := json.Unmarshal(b, &req); err != nil {
			t.Error(err)
		}
		asked++
		a := answer{Envelope: new(envelope)}
		if *a.Envelope = signed(t, "v1", 6, next); req.Deltas {
			a.Envelope.Document, a.Steps = nil, [][]byte{makeDelta(theirs, next)}
		}
		return json.Marshal(a)
	}
	c.fetchNow(t.Context())
	if fmt.Sprint(*enforced) != "[5 6]" || asked != 2 || c.Status().Refused != 0 {
		t.Errorf("enforced %v after %d questions: %+v", *enforced, asked, c.Status())
	}
	wrong := signed(t, "v1", 7, mine)
	wrong.Document = nil
	c.hear("f9", request{Version: 7, Envelope: &wrong, Have: 6, Steps: [][]byte{makeDelta(next, theirs)}})
	if c.Policy().Version != 6 || c.Status().Refused != 1 {
		t.Errorf("a delta that makes what nobody signed must be refused: %+v", c.Status())
	}
}

func TestFollowerRefusesBadCopies(t *testing.T) {
	doc := storedDoc(t, sampleYAML)
	tampered := signed(t, "v1", 5, doc)
	tampered.Document = []byte(strings.Replace(string(doc), "eu", "us", 1))
	renumbered := signed(t, "v1", 5, doc)
	renumbered.Version = 6
	for name, e := range map[string]envelope{
		"tampered document":     tampered,
		"tampered version":      renumbered,
		"signed by a non-voter": signed(t, "f2", 5, doc),
		"no signature":          {Version: 5, Document: doc, Cert: []byte("v1")},
		"version 0":             signed(t, "v1", 0, doc),
		"unknown field":         signed(t, "v1", 5, []byte(`{"regions":[],"apps":[],"blocklist":[],"new":1}`)),
		"not JSON":              signed(t, "v1", 5, []byte("regions: []")),
	} {
		c, enforced := follower(t, e)
		c.fetchNow(t.Context())
		if s := c.Status(); len(*enforced) != 0 || s.PolicyVersion != 0 || s.Refused != 1 || s.LastError == "" {
			t.Errorf("%s: must be refused, counted and reported: %+v, enforced %v", name, s, *enforced)
		}
	}
}

func TestFollowerRefusesLowerVersions(t *testing.T) {
	e := signed(t, "v1", 5, storedDoc(t, sampleYAML))
	c, enforced := follower(t, e)
	c.fetchNow(t.Context())
	if err := c.fetch(t.Context(), "f9", 6); err == nil {
		t.Error("a copy of version 5 is no answer to somebody at 6")
	}
	p, err := e.open(fakeVerify)
	if err != nil {
		t.Fatal(err)
	}
	c.install(signed(t, "v1", 4, e.Document), Policy{Version: 4})
	c.install(e, p)
	if fmt.Sprint(*enforced) != "[5]" {
		t.Errorf("enforced %v", *enforced)
	}
}

func TestWriteWithoutLeaderSaysSo(t *testing.T) {
	bubble(t, 75*time.Millisecond, func(t *testing.T, m *mesh) {
		f := m.start("f1", 0)
		_, err := f.c.change(t.Context(), numbered(1), nil)
		if !errors.Is(err, ErrNoLeader) || !strings.Contains(err.Error(), "majority of voters") {
			t.Errorf("got %v", err)
		}
		v := m.start("v1", 3)
		time.Sleep(5 * time.Second)
		if s := v.c.Status(); s.Role != "starting" || !strings.Contains(s.LastError, "1 of 3 voters are alive") {
			t.Errorf("a lone voter must say what it waits for: %+v", s)
		}
	})
}

func TestServeAnswersAndBounds(t *testing.T) {
	c, _ := follower(t, signed(t, "v1", 5, storedDoc(t, sampleYAML)))
	c.fetchNow(t.Context())
	get := func(req string) answer {
		a, err := decodeAnswer(c.Serve(t.Context(), "f2", []byte(req)))
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	if a := get(`{"op":"get"}`); a.Version != 5 || strings.Contains(string(a.Policy), secretA) || !strings.Contains(string(a.Policy), Fingerprint(secretA)) {
		t.Errorf("get must be redacted: %+v", a)
	}
	if a := get(`{"op":"envelope","have":4}`); a.Envelope == nil {
		t.Error("a peer that is behind gets the copy")
	}
	if a := get(`{"op":"envelope","have":5}`); a.Envelope != nil || a.Version != 5 {
		t.Error("a peer that is not behind gets the number only")
	}
	if a := get(`{"op":"dance"}`); a.Code != codeOther || !strings.Contains(a.Error, "upgrade") {
		t.Errorf("unknown operation: %+v", a)
	}
	if a := get(`{"op":"apply","hops":2}`); a.Code != codeNoLeader {
		t.Errorf("hop limit: %+v", a)
	}
	if a := get(`{"op":"join","node":"v9"}`); a.Code != codeOther {
		t.Errorf("joining in another's name: %+v", a)
	}
	if a := get(strings.Repeat("x", maxMessage+1)); !strings.Contains(a.Error, "at most") {
		t.Errorf("too long: %+v", a)
	}
}

func TestErrorsSurviveTheWire(t *testing.T) {
	conflict, problems := &ConflictError{1, 2}, Problems{{Path: "a", Line: 3, Reason: "b"}}
	for _, err := range []error{ErrNoLeader, ErrUnknownOutcome, conflict, problems, errors.New("other")} {
		b, jsonErr := json.Marshal(answerOf(err))
		if jsonErr != nil {
			t.Fatal(jsonErr)
		}
		a, decodeErr := decodeAnswer(b)
		if decodeErr != nil || a.err() == nil || a.err().Error() != err.Error() {
			t.Errorf("%v became %v", err, a.err())
		}
	}
}

func FuzzServe(f *testing.F) {
	cfg := newMesh(f, 0).config("f1", 0)
	cfg.Members = func() []Member { return nil }
	c, err := New(cfg)
	if err != nil {
		f.Fatal(err)
	}
	for _, op := range []string{opApply, opHistory, opVersion, opGet, opEnvelope, opHello, opJoin} {
		f.Add([]byte(`{"op":"` + op + `","hops":1,"have":1,"document":"e30=","voters":["a"]}`))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := decodeAnswer(c.Serve(t.Context(), "f2", b)); err != nil {
			t.Fatalf("every request gets an answer that can be read: %v", err)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	good, err := json.Marshal(answer{Envelope: &envelope{Version: 1, Document: []byte("{}"), Cert: []byte("v1"), Sig: []byte("x")}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := decodeAnswer(b)
		if err != nil {
			return
		}
		_ = a.err()
		if a.Envelope != nil {
			_, _ = a.Envelope.open(func(_, _, _ []byte) (string, bool, error) { return "v1", true, nil })
		}
	})
}

// fetchNow is fetchNewer without the wait for news.
func (c *Control) fetchNow(ctx context.Context) {
	c.aheadSince, c.aheadOf = time.Now().Add(-newsPatience), c.Policy().Version
	c.fetchNewer(ctx)
}
