package control

import (
	"bytes"
	"flag"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write docs/policy.schema.json instead of comparing")

// The published schema is what the types say. go test ./control -run Schema -update writes it.
func TestPublishedSchemaIsTheOneOfTheTypes(t *testing.T) {
	const file = "../docs/policy.schema.json"
	if *update {
		if err := os.WriteFile(file, Schema(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(got, Schema()) {
		t.Errorf("%s is not what the types say (%v): run go test ./control -run Schema -update", file, err)
	}
}

// Every key has a line in rules, and every line of rules a key: both ways, or the schema lies.
func TestSchemaSaysSomethingAboutEveryKey(t *testing.T) {
	paths := make(map[string]bool)
	var walk func(reflect.Type, string)
	walk = func(of reflect.Type, path string) {
		switch {
		case of == reflect.TypeFor[netip.Prefix](), of == reflect.TypeFor[time.Time]():
		case of.Kind() == reflect.Slice:
			walk(of.Elem(), path+"[]")
		case of.Kind() == reflect.Map:
			walk(of.Elem(), path+"{}")
		case of.Kind() == reflect.Struct:
			for _, f := range fieldsOf(of) {
				where := strings.TrimPrefix(path+"."+f.key, ".")
				paths[where] = true
				walk(f.of, where)
			}
		}
	}
	walk(reflect.TypeFor[Policy](), "")
	for path := range paths {
		if rules[path].says == "" {
			t.Errorf("rules has no line for %s", path)
		}
	}
	for path := range rules {
		if !paths[path] {
			t.Errorf("rules has a line for %s, which no document has", path)
		}
	}
}

// Whatever the parser knows as a key is in the types, so that the schema has it too: an empty value of each key of the
// types must never be an unknown key.
func TestParserKnowsEveryKeyOfTheTypes(t *testing.T) {
	var walk func(reflect.Type, string, string)
	walk = func(of reflect.Type, before, after string) {
		for _, f := range fieldsOf(of) {
			_, err := Parse([]byte(before + f.key + ": !!null x" + after))
			if err != nil && strings.Contains(err.Error(), "unknown key") {
				t.Errorf("the parser does not know %s%s: %v", before, f.key, err)
			}
			switch inner := f.of; {
			case inner == reflect.TypeFor[[]netip.Prefix]():
			case inner == reflect.TypeFor[time.Time]():
			case inner.Kind() == reflect.Struct:
				walk(inner, before+f.key+": {", "}"+after)
			case inner.Kind() == reflect.Slice && inner.Elem().Kind() == reflect.Struct:
				walk(inner.Elem(), before+f.key+": [{", "}]"+after)
			}
		}
	}
	walk(reflect.TypeFor[Policy](), "{", "}")
}
