package scenario

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/ternmesh/tern/control"
	"github.com/ternmesh/tern/control/document"
)

// Open reads a file that a scenario names: matrix, policy, loss trace.
type Open func(name string) ([]byte, error)

// Parse reads and checks a scenario. The error is Problems: everything that is wrong, each with its line. Parse is
// pure but for open, which may be nil if the scenario names no file.
func Parse(data []byte, open Open) (*Scenario, error) {
	c := &collector{lines: make(map[string]int)}
	f := c.decode(data)
	if f == nil {
		return nil, c.err()
	}
	if open == nil {
		open = func(name string) ([]byte, error) { return nil, fmt.Errorf("%s cannot be read from here", name) }
	}
	p := &reader{collector: c, file: f, open: open, s: &Scenario{Name: f.Name, About: f.About, Seed: f.Seed}}
	p.times()
	p.nodes()
	p.links()
	p.policy()
	p.streams()
	p.events()
	if err := c.err(); err != nil {
		return nil, err
	}
	return p.s, nil
}

// decode fills the file; nil: nothing can be said about values.
func (c *collector) decode(data []byte) *file {
	if len(data) == 0 {
		c.add("", "the file is empty")
		return nil
	}
	f := new(file)
	if !decodeAll(c, data, f) {
		return nil
	}
	return f
}

// decodeAll fills v. Neither unknown keys nor values of a wrong shape end it: the rest is decoded without them, so that the rest's
// faults are reported too. False: nothing can be said about values.
func decodeAll[T any](c *collector, data []byte, v *T) bool {
	if err := document.Decode(data, v); err != nil {
		var other []Problem // than unknown keys and keys that are there twice, which decodeLoosely does not see
		for _, line := range strings.Split(err.Error(), "\n") {
			p := lineFirst(line)
			alone := strings.HasPrefix(p.Reason, "unknown key") || twice.MatchString(p.Reason)
			p.Reason = inWords(p.Reason)
			if alone {
				c.problems = append(c.problems, p)
			} else {
				other = append(other, p)
			}
		}
		if errors.Is(err, document.ErrTooLarge) {
			c.problems = append(c.problems, other...)
			return false
		}
		*v = *new(T)
		before := len(c.problems)
		ok := decodeLoosely(c, data, v)
		if len(c.problems) == before { // else the same are among them, and more
			c.problems = append(c.problems, other...)
		}
		if !ok {
			return false
		}
	}
	c.mapLines(data)
	return true
}

// maxShapes bounds the values of a wrong shape that are told of.
const maxShapes = 100

// decodeLoosely decodes whatever has the right shape, and reports what has not. Of a key that is there twice it takes the last.
func decodeLoosely[T any](c *collector, data []byte, v *T) (ok bool) {
	defer func() {
		if recover() != nil { // the library, over a document that it cannot make sense of
			ok = false
		}
	}()
	tree, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
	if err != nil || len(tree.Docs) == 0 || tree.Docs[0].Body == nil {
		return false
	}
	for range maxShapes {
		var wrong yaml.Error
		err := yaml.NodeToValue(tree.Docs[0].Body, v, yaml.AllowDuplicateMapKey())
		switch {
		case err == nil:
			return true
		case !errors.As(err, &wrong) || wrong.GetToken() == nil || wrong.GetToken().Position == nil:
			return false
		}
		at := wrong.GetToken().Position
		path, found := blank(tree.Docs[0].Body, at, "")
		c.problems = append(c.problems, Problem{Line: at.Line, Path: path, Reason: inWords(wrong.GetMessage())})
		if !found {
			return false
		}
		*v = *new(T)
	}
	return false
}

// blank takes out the value at a place and says where that was; false if there is none.
func blank(n ast.Node, at *token.Position, path string) (string, bool) {
	here := func(n ast.Node) bool {
		t := n.GetToken()
		return t != nil && t.Position != nil && t.Position.Line == at.Line && t.Position.Column == at.Column
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		for _, kv := range n.Values {
			if p, ok := blank(kv, at, path); ok {
				return p, true
			}
		}
	case *ast.MappingValueNode:
		path := keyPath(path, n)
		if here(n.Value) {
			n.Value = ast.Null(n.Value.GetToken())
			return path, true
		}
		return blank(n.Value, at, path)
	case *ast.SequenceNode:
		for i, item := range n.Values {
			path := fmt.Sprintf("%s[%d]", path, i)
			if here(item) {
				n.Values[i] = ast.Null(item.GetToken())
				return path, true
			}
			if p, ok := blank(item, at, path); ok {
				return p, true
			}
		}
	}
	return "", false
}

var linePrefix = regexp.MustCompile(`^line (\d+)(?:, column \d+)?: `)

// lineFirst takes the line number out of a decoder's message.
func lineFirst(message string) Problem {
	p := Problem{Reason: message}
	if m := linePrefix.FindStringSubmatch(message); m != nil {
		_, _ = fmt.Sscan(m[1], &p.Line)
		p.Reason = message[len(m[0]):]
	}
	return p
}

func (c *collector) mapLines(data []byte) {
	defer func() { _ = recover() }() // the library: then faults have no lines
	if tree, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey()); err == nil && len(tree.Docs) > 0 && tree.Docs[0].Body != nil {
		locate(tree.Docs[0].Body, "", c.lines)
	}
}

// reader turns a file into a Scenario, section by section. Every section reports its own faults and leaves out what
// it could not read.
type reader struct {
	*collector
	file  *file
	open  Open
	s     *Scenario
	names []string // of nodes

	written []string // where each event of s was written; repetitions have the same place
}

// duration reads a time with a default for "".
func (p *reader) duration(path, s string, fallback time.Duration) time.Duration {
	if s == "" {
		return fallback
	}
	d, err := parseDuration(s)
	if err != nil {
		p.add(path, "%v", err)
		return fallback
	}
	return d
}

// maxSkew is more than clocks are wrong that anybody uses for anything.
const maxSkew = 1000 * time.Hour

// skew reads how far a clock is ahead, or with a minus behind; 0 for "".
func (p *reader) skew(path, s string) time.Duration {
	size, behind := strings.CutPrefix(strings.TrimPrefix(s, "+"), "-")
	d := p.duration(path, size, 0)
	if d > maxSkew {
		p.add(path, "%v is more than %v", d, maxSkew)
	}
	if behind {
		return -d
	}
	return d
}

func (p *reader) times() {
	s := p.s
	if !plainName.MatchString(s.Name) {
		p.add("name", "%q must be 1 to 63 of a-z, 0-9 and -", s.Name)
	}
	before := len(p.problems)
	s.Duration = p.duration("duration", p.file.Duration, DefaultDuration)
	if len(p.problems) > before {
		s.Duration = MaxDuration // so that nothing is said to lie behind an end that is not known
	}
	s.Warmup = p.duration("warmup", p.file.Warmup, min(DefaultWarmup, s.Duration/2))
	switch {
	case s.Duration <= 0 || s.Duration > MaxDuration:
		p.add("duration", "%v is not between 0 and %v", s.Duration, MaxDuration)
	case s.Warmup >= s.Duration:
		p.add("warmup", "%v leaves nothing of a duration of %v: figures start after the warmup", s.Warmup, s.Duration)
	}
	if s.Seed == 0 {
		s.Seed = 1
	}
}

// staticNAT is the kind of translator that a node may stand behind.
const staticNAT = "static"

var plainName = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)

func (p *reader) nodes() {
	p.names = slices.Sorted(maps.Keys(p.file.Nodes))
	if len(p.names) < 2 || len(p.names) > MaxNodes {
		p.add("nodes", "%d nodes, want 2 to %d", len(p.names), MaxNodes)
	}
	chosen := false
	for _, name := range p.names {
		f, path := p.file.Nodes[name], "nodes."+name
		if !plainName.MatchString(name) {
			p.add(path, "a node's name is 1 to 63 of a-z, 0-9 and -")
		}
		switch {
		case f.Region == "":
			p.add(path, "a node needs a region")
		case !plainName.MatchString(f.Region):
			p.add(path+".region", "%q must be 1 to 63 of a-z, 0-9 and -", f.Region)
		}
		n := Node{Name: name, Region: f.Region, City: f.City, Provider: f.Provider, SharedRisk: f.SharedRisk}
		if share := p.share(path+".joint_loss", f.JointLoss); share != nil {
			n.JointLoss = *share
		}
		p.risks(path, n)
		if n.NAT = f.NAT == staticNAT; !n.NAT && f.NAT != "" {
			p.add(path+".nat", "%q: others must reach a node unasked, so the only translator in front of one is %s: one to one, with the public address advertised", f.NAT, staticNAT)
		}
		n.Clock = p.skew(path+".clock", f.Clock)
		if f.Uplink != "" {
			rate, err := parseRate(f.Uplink)
			p.check(path+".uplink", err)
			n.Uplink = rate
		}
		if f.Voter != nil {
			chosen = true
			n.Voter = *f.Voter
		}
		p.s.Nodes = append(p.s.Nodes, n)
	}
	voters := 0
	for i := range p.s.Nodes {
		n := &p.s.Nodes[i]
		n.Voter = n.Voter || !chosen && (i == 0 || i < 3 && len(p.s.Nodes) >= 3)
		if n.Voter {
			voters++
		}
	}
	if chosen && voters != 1 && voters != 3 && voters != 5 {
		p.add("nodes", "%d nodes are voters, want 1, 3 or 5: an even number survives no more deaths than one less", voters)
	}
}

// A node tells the mesh at most so many risks, its provider among them, in names of at most so many bytes.
const (
	maxRisks     = 4
	maxRiskBytes = 31 // the mesh takes 40, "provider:" among them
)

func (p *reader) risks(path string, n Node) {
	all := n.SharedRisk
	if n.Provider != "" {
		all = append(slices.Clone(all), n.Provider)
	}
	if len(all) > maxRisks {
		p.add(path+".shared_risk", "%d risks, the provider among them: a node takes at most %d", len(all), maxRisks)
	}
	for _, risk := range all {
		if risk == "" || len(risk) > maxRiskBytes {
			p.add(path, "the name of a risk or provider has 1 to %d bytes, not %d: %q", maxRiskBytes, len(risk), risk)
		}
	}
}

// node reports whether a node exists, and the nearest name if not.
func (p *reader) node(path, name string) bool {
	if _, ok := p.file.Nodes[name]; ok {
		return true
	}
	if name == "" {
		p.add(path, "is missing: name a node")
		return false
	}
	hint := ""
	if near := document.Nearest(name, p.names); near != "" {
		hint = fmt.Sprintf(", did you mean %q?", near)
	}
	p.add(path, "there is no node %q%s", name, hint)
	return false
}

// policy reads the document and makes sure that it can be applied.
func (p *reader) policy() {
	if p.file.Policy == "" {
		return
	}
	p.s.Policy = p.policyFile("policy", p.file.Policy)
}

func (p *reader) policyFile(path, name string) []byte {
	doc, err := p.open(name)
	if err != nil {
		p.add(path, "%v", err)
		return nil
	}
	if _, err := control.Parse(doc); err != nil {
		var wrong control.Problems
		if !errors.As(err, &wrong) {
			p.add(path, "%s: %v", name, err)
		}
		for _, one := range wrong {
			p.add(path, "%s, %s", name, one)
		}
		return nil
	}
	return doc
}
