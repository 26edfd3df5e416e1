package scenario

import (
	"encoding/json"
	"maps"
	"os"
	"reflect"
	"slices"
	"testing"

	"github.com/ternmesh/tern/control/document"
	"github.com/ternmesh/tern/sim"
)

// schemaObject is as much of a JSON Schema as this test looks at.
type schemaObject struct {
	Properties map[string]json.RawMessage `json:"properties"`
	Defs       map[string]schemaObject    `json:"$defs"`
	Closed     *bool                      `json:"additionalProperties"`
}

func TestTheSchemaHasTheKeysThatParseReads(t *testing.T) {
	raw, err := os.ReadFile("../../../docs/scenario.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema schemaObject
	if err := json.Unmarshal(raw, &schema); err != nil {
		t.Fatal(err)
	}
	var flood, base schemaObject
	if err := json.Unmarshal(schema.Defs["event"].Properties["flood"], &flood); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(schema.Defs["links"].Properties["default"], &base); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		schema schemaObject
		file   any
	}{
		"the file": {schema, file{}}, "a node": {schema.Defs["node"], nodeFile{}}, "links": {schema.Defs["links"], linksFile{}},
		"a pair": {schema.Defs["pair"], pairFile{}}, "a stream": {schema.Defs["stream"], streamFile{}}, "an event": {schema.Defs["event"], eventFile{}},
		"a flood": {flood, floodFile{}}, "the default link": {base, linkFile{}},
	} {
		want := slices.Sorted(maps.Keys(document.Keys(reflect.TypeOf(c.file))))
		if got := slices.Sorted(maps.Keys(c.schema.Properties)); !slices.Equal(got, want) {
			t.Errorf("%s: the schema has %v, the file %v", name, got, want)
		}
		if c.schema.Closed == nil || *c.schema.Closed {
			t.Errorf("%s: the schema takes unknown keys", name)
		}
	}
	for _, names := range [][]string{slices.Collect(maps.Keys(Profiles)), slices.Collect(maps.Keys(sim.JitterModels))} {
		for _, name := range names {
			if !json.Valid(raw) || !slices.Contains(words(raw), name) {
				t.Errorf("the schema does not know %q", name)
			}
		}
	}
}

// words are the strings of a JSON document.
func words(raw []byte) (out []string) {
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case string:
			out = append(out, v)
		case []any:
			for _, one := range v {
				walk(one)
			}
		case map[string]any:
			for _, one := range v {
				walk(one)
			}
		}
	}
	var doc any
	if json.Unmarshal(raw, &doc) == nil {
		walk(doc)
	}
	return out
}
