package control

import (
	"strings"
	"testing"
)

const explained = `regions:
  - id: eu
  - id: us
  - id: asia
apps:
  - id: demo
    auth: app_id
    fence: [eu, us]
  - {id: open, auth: app_id}
  - {id: off, auth: app_id, admission: {disabled: true}}
nodes: {n1: {state: drained}}
`

// Every row is a question, the verdict, and the line that decides it.
func TestExplainNamesTheLine(t *testing.T) {
	for _, c := range []struct {
		app, from, to string
		allowed       bool
		line          int
		says          string
	}{
		{"demo", "eu", "us", true, 8, "relays may be in eu, us; never in asia"},
		{"demo", "eu", "asia", false, 8, "asia is outside"},
		{"demo", "asia", "eu", false, 8, "asia is outside: no node there lets the app's publishers in"},
		{"open", "asia", "eu", true, 1, "relays may be in asia, eu, us"},
		{"open", "mars", "eu", false, 1, "mars is no region of this policy"},
		{"off", "eu", "eu", false, 10, "nobody enters"},
		{"nope", "eu", "eu", false, 5, `app "nope" is not among them`},
		{"demo", "eu", "eu", true, 11, "n1 takes no new sessions and relays nothing"},
	} {
		e, err := Explain([]byte(explained), c.app, c.from, c.to)
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, clause := range e.Clauses {
			found = found || clause.Line == c.line && strings.Contains(clause.Then, c.says)
		}
		if e.Allowed != c.allowed || !found {
			t.Errorf("%s from %s to %s: want allowed %v by line %d (%s), got\n%s", c.app, c.from, c.to, c.allowed, c.line, c.says, e)
		}
	}
}

func TestExplainOfTheRenderedPolicyHasItsLines(t *testing.T) {
	p := mustParse(t, explained)
	p.Version = 7
	doc, err := Render(p)
	if err != nil {
		t.Fatal(err)
	}
	e, err := Explain(doc, "demo", "eu", "asia")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(doc), "\n")
	for _, c := range e.Clauses {
		if c.Stop && !strings.Contains(lines[c.Line-1], "fence") {
			t.Errorf("line %d is %q", c.Line, lines[c.Line-1])
		}
	}
	if e.Allowed {
		t.Error("asia is outside")
	}
}

func FuzzExplain(f *testing.F) {
	f.Add([]byte(explained), "demo", "eu", "us")
	f.Add([]byte("apps: [{id: a}]"), "a", "", "")
	f.Fuzz(func(t *testing.T, doc []byte, app, from, to string) {
		e, err := Explain(doc, app, from, to)
		if err == nil && e.Allowed && len(e.Relays) == 0 {
			t.Fatalf("allowed, and no region for it: %s", e)
		}
	})
}
