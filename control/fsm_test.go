package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
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
	c := s.history[0]
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
	if s.version != 3 || len(s.history) != 3 || s.stopped != nil {
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

func TestHistoryIsBounded(t *testing.T) {
	s := &state{}
	small := []byte(`{"regions":[],"apps":[],"blocklist":[]}`)
	for v := range uint64(maxHistory + 10) {
		if _, err := s.apply(entry(t, command{kind: commandApply, base: v, document: small})); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.history) != maxHistory || s.history[0].Version != 11 {
		t.Fatalf("%d changes kept, the first is %d", len(s.history), s.history[0].Version)
	}
	big := []byte(`{"regions":[],"apps":[{"id":"a","name":"` + strings.Repeat("x", 3<<20) + `","auth":"","redundancy":""}],"blocklist":[]}`)
	for range 4 {
		if _, err := s.apply(entry(t, command{kind: commandApply, base: s.version, document: big})); err != nil {
			t.Fatal(err)
		}
	}
	if last := s.history[len(s.history)-1]; s.docBytes > maxHistoryDocuments || last.Document == nil || s.history[0].Document != nil {
		t.Errorf("%d bytes of documents kept", s.docBytes)
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
