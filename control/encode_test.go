package control

import (
	"fmt"
	"reflect"
	"testing"
)

// What a node sends to the leader is what it read, sections that are left out or empty included.
func TestAPolicyOnItsWayToTheLeaderStaysTheSame(t *testing.T) {
	for _, further := range []string{"", "nodes: {}\nrevoked: []\nadmins: []\n", "nodes: {n1: {state: drained}}\nvoters: {count: 3}\nfilter: {rates: {peer: {per_second: 5, burst: 6}}}\n"} {
		p, err := Parse([]byte(sampleYAML + further))
		if err != nil {
			t.Fatal(err)
		}
		doc, err := EncodePolicy(p)
		if err != nil {
			t.Fatal(err)
		}
		for name, read := range map[string]func([]byte) (Policy, error){"decoded": decodePolicy, "parsed": Parse} {
			if got, err := read(doc); err != nil || !reflect.DeepEqual(got, p) {
				t.Errorf("%s, with %q: %v\n%+v\n%+v", name, further, err, got, p)
			}
		}
	}
}

// A peer may send anything as an encoded policy: what is accepted can be stored and read again.
func FuzzDecodePolicy(f *testing.F) {
	p, err := Parse([]byte(sampleYAML))
	if err != nil {
		f.Fatal(err)
	}
	doc, err := EncodePolicy(p)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(doc)
	f.Add([]byte(`{"regions":[{"id":"eu"}],"apps":null,"nodes":{},"admins":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := proposed(request{Document: b, Encoded: true})
		if err != nil {
			return
		}
		stored, err := encodeDocument(p)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := decodeDocument(stored, 1); err != nil || fmt.Sprint(Diff(p, again)) != "[]" {
			t.Errorf("%s: %v %v", b, err, Diff(p, again))
		}
	})
}
