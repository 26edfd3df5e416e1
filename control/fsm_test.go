package control

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func storedDoc(t testing.TB, yaml string) []byte {
	t.Helper()
	doc, err := encodeDocument(mustParse(t, yaml))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func entry(t testing.TB, c command) []byte {
	t.Helper()
	b, err := c.encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCommandRoundTrip(t *testing.T) {
	want := command{
		kind: commandApply, base: 7, floor: 3, id: "x", who: "ann", when: epoch, document: []byte("{}"), audit: []json.RawMessage{[]byte(`{"who":"ann"}`)},
	}
	got, err := decodeCommand(entry(t, want))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v became %+v (%v)", want, got, err)
	}
}

func TestApplyCountsVersionsAndKeepsHistory(t *testing.T) {
	s := &state{}
	doc := storedDoc(t, sampleYAML)
	p, err := s.apply(entry(t, command{kind: commandApply, who: "ann", when: epoch, document: doc}))
	if err != nil || p.Version != 1 || p.Apps[0].Certificates[0] != secretA {
		t.Fatalf("first change: %+v %v", p, err)
	}
	c := s.history.changes[0]
	if c.Who != "ann" || !c.When.Equal(epoch) || c.Bytes != len(doc) || len(c.SHA256) != 64 {
		t.Errorf("history line %+v", c)
	}
}

func TestApplyConflictNamesBothVersionsAndChangesNothing(t *testing.T) {
	s := &state{}
	doc := storedDoc(t, sampleYAML)
	for v := range uint64(3) {
		if _, err := s.apply(entry(t, command{kind: commandApply, base: v, document: doc})); err != nil {
			t.Fatal(err)
		}
	}
	_, err := s.apply(entry(t, command{kind: commandApply, base: 1, document: doc}))
	var conflict *ConflictError
	if !errors.As(err, &conflict) || *conflict != (ConflictError{Expected: 1, Current: 3}) {
		t.Fatalf("got %v", err)
	}
	if s.version != 3 || len(s.history.changes) != 3 || s.stopped != nil {
		t.Errorf("a conflict changed the state: version %d", s.version)
	}
}

func TestApplyContinuesAboveTheFloor(t *testing.T) {
	s := &state{}
	p, err := s.apply(entry(t, command{kind: commandApply, base: 57, floor: 57, document: storedDoc(t, sampleYAML)}))
	if err != nil || p.Version != 58 {
		t.Fatalf("a new voter set continues after version 57, got %d, %v", p.Version, err)
	}
}

// What cannot be read stops the state for good, instead of being skipped.
func TestApplyStopsAtTheUnknown(t *testing.T) {
	good := entry(t, command{kind: commandApply, document: storedDoc(t, sampleYAML)})
	future := bytes.Clone(good)
	future[2] = commandFormat + 1
	newType := bytes.Clone(good)
	newType[3] = 9
	field := entry(t, command{kind: commandApply, document: []byte(`{"regions":[],"apps":[],"blocklist":[],"quota":1}`)})
	for name, bad := range map[string][]byte{
		"future format": future, "unknown type": newType, "unknown field": field, "cut short": good[:40], "not a command": []byte("hello"),
	} {
		s := &state{}
		if _, err := s.apply(bad); err == nil || s.stopped == nil {
			t.Errorf("%s: must stop, got %v", name, err)
			continue
		}
		if _, err := s.apply(good); err == nil || s.version != 0 {
			t.Errorf("%s: a good entry after it was applied all the same", name)
		}
		if err := s.snapshot(&bytes.Buffer{}); err == nil {
			t.Errorf("%s: a stopped state must not be snapshotted", name)
		}
	}
	s := &state{}
	if _, err := s.apply(newType); !errors.Is(err, errFromFuture) || !strings.Contains(err.Error(), "upgrade") {
		t.Errorf("the operator must be told to upgrade: %v", err)
	}
}

func TestSnapshotRestore(t *testing.T) {
	s := &state{}
	for v := range uint64(5) {
		if _, err := s.apply(entry(t, command{kind: commandApply, base: v, who: fmt.Sprint("who", v), when: epoch, document: storedDoc(t, sampleYAML)})); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if err := s.snapshot(&b); err != nil {
		t.Fatal(err)
	}
	back, err := restoreState(bytes.NewReader(b.Bytes()))
	if err != nil || !reflect.DeepEqual(s, back) {
		t.Fatalf("restored state differs (%v):\n%+v\n%+v", err, s, back)
	}
	for i := range b.Len() {
		if i >= 11 && i <= 17 {
			continue // gzip's flags for people: time, system
		}
		bad := bytes.Clone(b.Bytes())
		bad[i] ^= 0x40
		if got, err := restoreState(bytes.NewReader(bad)); err == nil && !reflect.DeepEqual(got, s) {
			t.Fatalf("flipped bit in byte %d went unseen and changed the state", i)
		}
	}
}

// Every version of the history is there again, through a snapshot too, and a snapshot of the format before is read.
func TestHistoryKeepsDocumentsAsDeltas(t *testing.T) {
	s, documents := &state{}, make(map[uint64][]byte)
	for v := range uint64(20) {
		doc := storedDoc(t, sampleYAML)
		doc = bytes.Replace(doc, []byte(`"regions":[`), fmt.Appendf(nil, `"regions":[{"id":"r%d"},`, v), 1)
		documents[v+1] = doc
		if _, err := s.apply(entry(t, command{kind: commandApply, base: v, when: epoch, document: doc})); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if err := s.snapshot(&b); err != nil {
		t.Fatal(err)
	}
	back, err := restoreState(&b)
	if err != nil {
		t.Fatal(err)
	}
	before := stateImage{Version: s.version, Document: s.document, SHA256: sumOf(s.document)}
	for _, c := range s.history.changes {
		c.Document = documents[c.Version]
		before.History = append(before.History, c)
	}
	older, err := before.state()
	if err != nil {
		t.Fatal(err)
	}
	for name, st := range map[string]*state{"applied": s, "restored": back, "restored from format 1": older} {
		for v, want := range documents {
			if _, got, ok := st.change(v); !ok || !bytes.Equal(got, want) {
				t.Errorf("%s: version %d is %d bytes, want %d", name, v, len(got), len(want))
			}
		}
	}
	if s.history.bytes > 20*60 {
		t.Errorf("20 versions that differ in a word take %d bytes beside a document of %d", s.history.bytes, len(s.document))
	}
	back.history.back[3][40] ^= 1
	bad := stateImage{Version: s.version, Document: s.document, SHA256: sumOf(s.document), History: back.history.changes, Back: back.history.back}
	if _, err := bad.state(); err == nil {
		t.Error("a history that cannot be made whole must not be restored")
	}
}

func sumOf(b []byte) []byte { s := sha256.Sum256(b); return s[:] }

func TestHistoryIsBounded(t *testing.T) {
	s := &state{}
	small := []byte(`{"regions":[],"apps":[],"blocklist":[]}`)
	for v := range uint64(maxHistory + 10) {
		if _, err := s.apply(entry(t, command{kind: commandApply, base: v, document: small})); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.history.changes) != maxHistory || s.history.changes[0].Version != 11 {
		t.Fatalf("%d changes kept, the first is %d", len(s.history.changes), s.history.changes[0].Version)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for range 4 { // nothing in common with the one before
		noise := make([]byte, maxHistoryBytes*2/5)
		for i := range noise {
			noise[i] = byte('a' + rng.IntN(26))
		}
		big := fmt.Appendf(nil, `{"regions":[],"apps":[{"id":"a","name":"%s","auth":"","redundancy":""}],"blocklist":[]}`, noise)
		if _, err := s.apply(entry(t, command{kind: commandApply, base: s.version, document: big})); err != nil {
			t.Fatal(err)
		}
	}
	kept := 0
	s.history.walk(s.document, func(Change, []byte) bool { kept++; return true })
	if s.history.bytes > maxHistoryBytes || kept != 3 {
		t.Errorf("%d bytes kept, %d documents", s.history.bytes, kept)
	}
}

func FuzzCommand(f *testing.F) {
	f.Add(entry(f, command{kind: commandApply, base: 1, who: "ann", when: epoch, document: storedDoc(f, sampleYAML)}))
	f.Add([]byte("TC\x02\x02"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := &state{}
		if _, err := s.apply(b); err != nil {
			return
		}
		c, err := decodeCommand(b)
		if err != nil {
			t.Fatal(err)
		}
		again, err := c.encode()
		if err != nil {
			t.Fatalf("an accepted entry must be one that could be written: %v", err)
		}
		if back, err := decodeCommand(again); err != nil || !reflect.DeepEqual(back, c) {
			t.Fatalf("%+v became %+v (%v)", c, back, err)
		}
	})
}

func FuzzRestore(f *testing.F) {
	var b bytes.Buffer
	if err := (&state{}).snapshot(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = restoreState(bytes.NewReader(b)) })
}
