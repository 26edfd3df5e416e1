package control

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// Clause is one thing that a policy says about a question, and where it says so.
type Clause struct {
	Line int    `json:"line"` // of the document; 0: the document does not say it, it is the default
	Path string `json:"path"`
	Says string `json:"says"` // the value there, without secrets
	Then string `json:"then"` // what follows
	Stop bool   `json:"stop"` // it forbids what was asked
}

// Explanation answers whether an app's media may go from one region to another.
type Explanation struct {
	App     string   `json:"app"`
	From    string   `json:"from"`
	To      string   `json:"to"`
	Allowed bool     `json:"allowed"`
	Clauses []Clause `json:"clauses"`
	Relays  []string `json:"relays"` // regions where relays may be
}

// Render writes p as YAML with its version in the first line, as tern policy get shows it: Parse reads it again.
// Secrets are fingerprints.
func Render(p Policy) ([]byte, error) {
	text, err := yaml.MarshalWithOptions(Redact(p), yaml.UseJSONMarshaler())
	if err != nil {
		return nil, fmt.Errorf("render policy: %w", err)
	}
	return append(fmt.Appendf(nil, "# version %d\n", p.Version), text...), nil
}

// Explain says whether the document lets media of app enter the mesh in region from and leave it in region to, and by
// which lines. The document must be one that Parse accepts. Pure.
func Explain(doc []byte, app, from, to string) (Explanation, error) {
	p, err := Parse(doc)
	if err != nil {
		return Explanation{}, err
	}
	root, problem := parseTree(doc)
	if problem != nil {
		return Explanation{}, Problems{*problem}
	}
	r := reader{lines: make(map[string]int)}
	r.policy(root)
	e := explainer{p: p, line: r.lineOf, out: Explanation{App: app, From: from, To: to, Allowed: true}}
	e.run()
	return e.out, nil
}

// explainer walks the questions in the order in which a node asks them.
type explainer struct {
	p    Policy
	line func(string) int
	out  Explanation
}

func (e *explainer) say(path, says, then string, stop bool) {
	e.out.Clauses = append(e.out.Clauses, Clause{Line: e.line(path), Path: path, Says: says, Then: then, Stop: stop})
	e.out.Allowed = e.out.Allowed && !stop
}

func (e *explainer) run() {
	i := slices.IndexFunc(e.p.Apps, func(a App) bool { return a.ID == e.out.App })
	if i < 0 {
		e.say("apps", fmt.Sprintf("%d apps", len(e.p.Apps)), fmt.Sprintf("app %q is not among them: nobody enters", e.out.App), true)
		return
	}
	app, path := e.p.Apps[i], fmt.Sprintf("apps[%d]", i)
	e.say(path+".id", app.ID, "the app exists", false)
	e.say(path+".auth", app.Auth, map[string]string{
		AuthToken: "clients need a token signed with one of the app's certificates or keys", AuthAppID: "the app's id lets clients in",
	}[app.Auth], false)
	if app.Admission.Disabled {
		e.say(path+".admission.disabled", "true", "nobody enters", true)
	}
	fence, where := e.p.FenceRegions(app), path+".fence"
	if len(app.Fence) == 0 {
		where = "regions"
	}
	says := "[" + strings.Join(fence, ", ") + "]"
	e.end(where, says, fence, e.out.From, "publishers may enter there", "no node there lets the app's publishers in")
	e.end(where, says, fence, e.out.To, "viewers may leave there", "no node there lets the app's viewers in")
	if e.out.Allowed {
		e.relays(where, says, fence)
	}
	e.say(path+".redundancy", app.Redundancy, map[string]string{
		RedundancyFull: "every packet goes on up to three paths", RedundancyAdaptive: "copies follow the need", RedundancyOff: "every packet goes once",
	}[app.Redundancy], false)
	e.nodes()
}

// end judges one end of the way.
func (e *explainer) end(where, says string, fence []string, region, yes, no string) {
	known := slices.ContainsFunc(e.p.Regions, func(r Region) bool { return r.ID == region })
	switch {
	case slices.Contains(fence, region):
		e.say(where, says, fmt.Sprintf("%s is inside: %s", region, yes), false)
	case !known:
		e.say("regions", fmt.Sprintf("%d regions", len(e.p.Regions)), fmt.Sprintf("%s is no region of this policy: it carries no media", region), true)
	default:
		e.say(where, says, fmt.Sprintf("%s is outside: %s", region, no), true)
	}
}

func (e *explainer) relays(where, says string, fence []string) {
	var outside []string
	for _, r := range e.p.Regions {
		if !slices.Contains(fence, r.ID) {
			outside = append(outside, r.ID)
		}
	}
	e.out.Relays = fence
	then := "relays may be in " + strings.Join(fence, ", ")
	if len(outside) > 0 {
		then += "; never in " + strings.Join(outside, ", ")
	}
	e.say(where, says, then, false)
}

// nodes names the nodes that the policy takes out of the way.
func (e *explainer) nodes() {
	for _, name := range keysOfMap(e.p.Nodes) {
		e.say("nodes."+name, e.p.Nodes[name].State, name+" takes no new sessions"+map[string]string{NodeDrained: " and relays nothing"}[e.p.Nodes[name].State], false)
	}
	for i, r := range e.p.Revoked {
		e.say(fmt.Sprintf("revoked[%d]", i), strings.TrimSpace(r.Node+" "+r.Serial), "is no part of the mesh", false)
	}
}

func keysOfMap[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// String is the explanation for people.
func (e Explanation) String() string {
	var b bytes.Buffer
	verdict := "allowed"
	if !e.Allowed {
		verdict = "FORBIDDEN"
	}
	fmt.Fprintf(&b, "app %s, from %s to %s: %s\n", e.App, e.From, e.To, verdict)
	for _, c := range e.Clauses {
		where := fmt.Sprintf("line %d", c.Line)
		if c.Line == 0 {
			where = "default"
		}
		mark := " "
		if c.Stop {
			mark = "!"
		}
		fmt.Fprintf(&b, "%s %-9s %s: %s\n%12s=> %s\n", mark, where, c.Path, c.Says, "", c.Then)
	}
	return b.String()
}
