package document

import (
	"strings"
	"testing"
)

type inner struct {
	Listen string   `yaml:"listen"`
	Join   []string `yaml:"join"`
}

type sample struct {
	Node string  `yaml:"node"`
	Mesh inner   `yaml:"mesh"`
	List []inner `yaml:"list"`
	N    int     `yaml:"n"`
}

func TestDecodeFillsTheStruct(t *testing.T) {
	for name, doc := range map[string]string{
		"yaml": "node: fra\nmesh:\n  listen: a\n  join: [x, y]\nlist:\n  - listen: b\nn: 3\n",
		"json": `{"node":"fra","mesh":{"listen":"a","join":["x","y"]},"list":[{"listen":"b"}],"n":3}`,
	} {
		var s sample
		if err := Decode([]byte(doc), &s); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if s.Node != "fra" || s.Mesh.Listen != "a" || len(s.Mesh.Join) != 2 || s.List[0].Listen != "b" || s.N != 3 {
			t.Errorf("%s: got %+v", name, s)
		}
	}
}

func TestDecodeNamesEveryUnknownKeyWithItsLine(t *testing.T) {
	var s sample
	err := Decode([]byte("node: fra\nmehs:\n  listen: a\nmesh:\n  lisen: b\nlist:\n  - jion: [x]\nzzzzzz: 1\n"), &s)
	if err == nil {
		t.Fatal("four unknown keys were accepted")
	}
	for _, want := range []string{
		`line 2: unknown key "mehs", did you mean "mesh"?`,
		`line 5: unknown key "mesh.lisen", did you mean "listen"?`,
		`line 7: unknown key "list[0].jion", did you mean "join"?`,
		`line 8: unknown key "zzzzzz"`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %q:\n%v", want, err)
		}
	}
}

func TestDecodeRefusesBadDocuments(t *testing.T) {
	for name, c := range map[string]struct{ doc, want string }{
		"wrong type":      {"node: fra\nn: many\n", "line 2"},
		"duplicate key":   {"node: a\nnode: b\n", "line 2"},
		"two documents":   {"node: a\n---\nnode: b\n", "second document"},
		"broken":          {"node: [a\n", "line"},
		"nested too deep": {"node: " + strings.Repeat("[", 1000), "nested more than"},
		"too large":       {"node: " + strings.Repeat("a", MaxSize), "at most"},
	} {
		var s sample
		if err := Decode([]byte(c.doc), &s); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, c.want)
		}
	}
}

func TestDecodeNeverShowsTheSource(t *testing.T) {
	var s sample
	err := Decode([]byte("node: topsecret\nn: {a: topsecret}\n"), &s)
	if err == nil || strings.Contains(err.Error(), "topsecret") {
		t.Errorf("the error shows the document: %v", err)
	}
}

func TestNearest(t *testing.T) {
	names := []string{"listen", "join", "advertise"}
	for word, want := range map[string]string{"lisen": "listen", "jion": "join", "advertize": "advertise", "banana": ""} {
		if got := Nearest(word, names); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", word, got, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("node: fra\nmesh: {listen: a}\n"))
	f.Add([]byte("a: &x [*x]\n"))
	f.Add([]byte("list:\n - listen: !!binary x\n"))
	f.Add([]byte("list: ! ")) // the library panicked
	f.Fuzz(func(t *testing.T, data []byte) {
		var s sample
		_ = Decode(data, &s) // must return
	})
}
