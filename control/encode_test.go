package control

import (
	"fmt"
	"reflect"
	"strings"
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
		if _, fast := parseEncoded(doc); !fast {
			t.Errorf("with %q: not taken for what EncodePolicy writes", further)
		}
		spaced := append([]byte(" "), doc...) // the long way
		long := func([]byte) (Policy, error) { return Parse(spaced) }
		for name, read := range map[string]func([]byte) (Policy, error){"decoded": decodePolicy, "parsed": Parse, "parsed as YAML": long} {
			if got, err := read(doc); err != nil || !reflect.DeepEqual(got, p) {
				t.Errorf("%s, with %q: %v\n%+v\n%+v", name, further, err, got, p)
			}
		}
	}
}

// The short way of reading takes nothing that the long one would judge differently.
func TestOnlyWhatIsWrittenByEncodePolicyIsReadTheShortWay(t *testing.T) {
	const good = `{"regions":[{"id":"eu"}],"apps":[{"id":"a","auth":"app_id","redundancy":"full"}],"blocklist":[]}`
	if _, fast := parseEncoded([]byte(good)); !fast {
		t.Fatal("what EncodePolicy writes is not taken")
	}
	for name, c := range map[string]struct{ old, new string }{
		"a key twice":       {`"id":"a"`, `"id":"b","id":"a"`},
		"a key in capitals": {`"apps"`, `"APPS"`},
		"an unknown key":    {`"auth"`, `"oath":"","auth"`},
		"a default left to": {`"auth":"app_id",`, ``},
		"no list":           {`"blocklist":[]`, `"blocklist":null`},
		"white space":       {`{"id":"eu"}`, `{"id": "eu"}`},
		"something invalid": {`"full"`, `"ful"`},
		"more behind it":    {`"blocklist":[]}`, `"blocklist":[]}{}`},
	} {
		if _, fast := parseEncoded([]byte(strings.Replace(good, c.old, c.new, 1))); fast {
			t.Errorf("%s: read the short way", name)
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
