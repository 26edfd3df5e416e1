package control

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxNesting bounds brackets and list dashes before the document reaches a parser that recurses. A policy needs four.
const maxNesting = 100

// Parse reads a policy document, YAML or JSON, fills in the defaults (auth: token, redundancy: full) and validates
// it. The error is Problems with everything that was found, each with its line; it never holds a secret. The result
// has version 0. Certificates may be fingerprints; Merge puts the secrets in. Pure.
//
// A document that EncodePolicy wrote is read without the YAML parser, in a fifth of the time and a sixth of the memory: who has a
// large one to send writes it so.
func Parse(doc []byte) (Policy, error) {
	if p, ok := parseEncoded(doc); ok {
		return p, nil
	}
	var problems Problems
	root, problem := parseTree(doc)
	if problem != nil {
		problems = append(problems, *problem)
		return Policy{}, problems
	}
	r := reader{lines: make(map[string]int)}
	p := r.policy(root)
	v := validator{problems: r.problems, line: r.lineOf, said: make(map[string]bool)}
	for _, problem := range r.problems {
		v.said[problem.Path] = problem.Path != ""
	}
	v.policy(p)
	if err := v.problems.err(); err != nil {
		return Policy{}, err
	}
	return p, nil
}

// parseEncoded reads what EncodePolicy makes of a good policy, byte for byte, and nothing else: JSON has no lines to report, and
// encoding/json lets pass what Parse does not (a key given twice, or in capitals).
func parseEncoded(doc []byte) (Policy, bool) {
	if !bytes.HasPrefix(doc, []byte(`{"regions":[`)) {
		return Policy{}, false
	}
	p, err := decodePolicy(doc)
	if err != nil || p.Apps == nil || p.Blocklist == nil || Validate(p) != nil {
		return Policy{}, false
	}
	again, err := EncodePolicy(p)
	return p, err == nil && bytes.Equal(again, doc)
}

// parseTree turns text into the syntax tree of its one document.
func parseTree(doc []byte) (ast.Node, *Problem) {
	if len(doc) > MaxDocumentBytes {
		return nil, &Problem{Reason: fmt.Sprintf("is %d bytes long, at most %d are allowed", len(doc), MaxDocumentBytes)}
	}
	if !utf8.Valid(doc) {
		return nil, &Problem{Reason: "is not UTF-8 text"}
	}
	if line := tooDeep(doc); line > 0 {
		return nil, &Problem{Line: line, Reason: fmt.Sprintf("is nested more than %d deep", maxNesting)}
	}
	// JSON may be indented with tabs, YAML may not. Inside a JSON string a tab must be written \t, so that every tab
	// in a JSON document is white space.
	if bytes.HasPrefix(bytes.TrimSpace(doc), []byte("{")) {
		doc = bytes.ReplaceAll(doc, []byte("\t"), []byte(" "))
	}
	file, err := parseNoPanic(doc)
	if err != nil {
		return nil, syntaxProblem(err)
	}
	if len(file.Docs) != 1 || file.Docs[0].Body == nil {
		return nil, &Problem{Reason: "must hold exactly one document that is not empty"}
	}
	return file.Docs[0].Body, nil
}

// parseNoPanic keeps a fault of the YAML library from ending a node: the document comes from outside.
func parseNoPanic(doc []byte) (file *ast.File, err error) {
	defer func() {
		if r := recover(); r != nil {
			file, err = nil, errors.New("the YAML parser cannot read it")
		}
	}()
	return parser.ParseBytes(doc, 0)
}

// syntaxProblem keeps line and message of a parse error and drops the quoted source: it may hold a secret.
func syntaxProblem(err error) *Problem {
	p := &Problem{Reason: "is not valid YAML"}
	var located yaml.Error
	if errors.As(err, &located) {
		p.Reason += ": " + located.GetMessage()
		if t := located.GetToken(); t != nil && t.Position != nil {
			p.Line = t.Position.Line
		}
	}
	return p
}

// tooDeep returns the line where nesting exceeds maxNesting, or 0. It counts brackets without looking for quotes,
// which may only overestimate: no sane document holds a hundred unclosed brackets, quoted or not.
func tooDeep(doc []byte) int {
	depth, marks, line := 0, 0, 1
	for i, c := range doc {
		switch c {
		case '\n':
			line++
			marks = 0
		case '[', '{':
			depth++
		case ']', '}':
			depth = max(0, depth-1)
		case '-', '?', ':', '!', '&':
			// "- - -" and the like open one level each, on one line. A mark counts where white space follows or, for
			// tags and anchors, anywhere.
			if c == '!' || c == '&' || i+1 == len(doc) || doc[i+1] == ' ' || doc[i+1] == '\t' || doc[i+1] == '\n' {
				marks++
			}
		case ',':
			marks = 0 // the next entry of a flow list starts on its own
		}
		if depth > maxNesting || marks > maxNesting {
			return line
		}
	}
	return 0
}

// reader turns the tree into a Policy. It decodes by hand, not by reflection, for three things: every problem is
// reported, not the first; scalars keep their text (an app id of digits is no number); and every path knows its line.
type reader struct {
	problems Problems
	lines    map[string]int
}

// lineOf is the line of a path, or of the nearest parent that was written.
func (r *reader) lineOf(path string) int {
	for path != "" {
		if line, found := r.lines[path]; found {
			return line
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return 0
}

func (r *reader) add(path string, n ast.Node, format string, args ...any) {
	r.problems.add(path, lineOfNode(n), format, args...)
}

func lineOfNode(n ast.Node) int {
	if n == nil || n.GetToken() == nil || n.GetToken().Position == nil {
		return 0
	}
	return n.GetToken().Position.Line
}

func (r *reader) policy(root ast.Node) Policy {
	p := Policy{Regions: []Region{}, Apps: []App{}, Blocklist: []netip.Prefix{}}
	known := r.sections(&p)
	maps.Copy(known, map[string]func(string, ast.Node){
		"regions": func(path string, n ast.Node) {
			r.list(path, n, MaxRegions, func(path string, n ast.Node) { p.Regions = append(p.Regions, r.region(path, n)) })
		},
		"apps": func(path string, n ast.Node) {
			r.list(path, n, MaxApps, func(path string, n ast.Node) { p.Apps = append(p.Apps, r.app(path, n)) })
		},
		"blocklist": func(path string, n ast.Node) {
			r.list(path, n, MaxBlocklist, func(path string, n ast.Node) { p.Blocklist = r.prefix(path, n, p.Blocklist) })
		},
		"nodes":   r.nodes(&p.Nodes),
		"revoked": r.revoked(&p.Revoked),
		"admins":  r.admins(&p.Admins),
		"clients": func(path string, n ast.Node) {
			r.list(path, n, MaxRegions, func(path string, n ast.Node) { p.Clients = append(p.Clients, r.clients(path, n)) })
		},
		"routes": func(path string, n ast.Node) {
			r.list(path, n, MaxBounds, func(path string, n ast.Node) { p.Routes = append(p.Routes, r.routeBound(path, n)) })
		},
	})
	r.fields("", root, known)
	return p
}

func (r *reader) region(path string, n ast.Node) (out Region) {
	r.fields(path, n, map[string]func(string, ast.Node){"id": r.text(&out.ID)})
	return out
}

func (r *reader) app(path string, n ast.Node) App {
	out := App{Auth: AuthToken, Redundancy: RedundancyFull}
	r.fields(path, n, map[string]func(string, ast.Node){
		"id":           r.text(&out.ID),
		"name":         r.text(&out.Name),
		"certificates": r.texts(&out.Certificates, MaxCertificates),
		"auth":         r.text(&out.Auth),
		"fence":        r.texts(&out.Fence, MaxRegions),
		"redundancy":   r.text(&out.Redundancy),
		"residual_ppm": r.number(&out.ResidualPPM),
		"limits":       r.limits(&out.Limits),
		"admission":    r.admission(&out.Admission),
	})
	return out
}

// prefix reads a CIDR; a bare address stands for itself alone. A bad one keeps its place as the zero Prefix, so that
// indices in later problems are those of the document; the validator would name it again, hence the early report.
func (r *reader) prefix(path string, n ast.Node, list []netip.Prefix) []netip.Prefix {
	var s string
	r.text(&s)(path, n)
	p, err := netip.ParsePrefix(s)
	if addr, addrErr := netip.ParseAddr(s); err != nil && addrErr == nil && addr.Zone() == "" {
		p, err = netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	if err != nil && s != "" {
		r.add(path, n, "%.64q is neither an address nor a prefix such as 203.0.113.0/24", s)
	}
	return append(list, p)
}

// fields walks a mapping: every key at most once, and no key that is not known.
func (r *reader) fields(path string, n ast.Node, known map[string]func(string, ast.Node)) {
	pairs, isMap := mapping(n)
	if !isMap {
		r.add(path, n, "must be a mapping of keys to values%s", reference(n))
		return
	}
	seen := make(map[string]bool, len(known))
	for _, pair := range pairs {
		key, isScalar := scalar(pair.Key)
		read, valid := known[key]
		where := key
		if path != "" {
			where = path + "." + key
		}
		switch {
		case !isScalar:
			r.add(path, pair.Key, "has a key that is not plain text")
		case !valid:
			names := make([]string, 0, len(known))
			for name := range known {
				names = append(names, name)
			}
			r.add(path, pair.Key, "unknown key %.64q%s", key, nearestKey(key, names))
		case seen[key]:
			r.add(where, pair.Key, "is given twice")
		default:
			seen[key] = true
			r.lines[where] = lineOfNode(pair.Key)
			read(where, pair.Value)
		}
	}
}

// list walks a sequence; one that is too long is reported once and read no further.
func (r *reader) list(path string, n ast.Node, most int, each func(string, ast.Node)) {
	seq, isList := n.(*ast.SequenceNode)
	if !isList {
		r.add(path, n, "must be a list%s", reference(n))
		return
	}
	for i, item := range seq.Values {
		if i > most { // one more than allowed reaches the validator, which says so
			return
		}
		where := fmt.Sprintf("%s[%d]", path, i)
		r.lines[where] = lineOfNode(item)
		each(where, item)
	}
}

// text stores a scalar as it was written.
func (r *reader) text(to *string) func(string, ast.Node) {
	return func(path string, n ast.Node) {
		s, isScalar := scalar(n)
		if !isScalar {
			hint := reference(n)
			if _, isMap := mapping(n); isMap {
				hint = ": put quotes around one that holds a colon"
			}
			r.add(path, n, "must be a text%s", hint)
			return
		}
		*to = s
	}
}

// reference says what to do about a node that stands for another one.
func reference(n ast.Node) string {
	switch n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.MergeKeyNode:
		return ": anchors (&), aliases (*), tags (!) and merge keys (<<) are not taken, write it out"
	}
	return ""
}

func (r *reader) texts(to *[]string, most int) func(string, ast.Node) {
	return func(path string, n ast.Node) {
		r.list(path, n, most, func(path string, n ast.Node) {
			var s string
			r.text(&s)(path, n)
			*to = append(*to, s)
		})
	}
}

func mapping(n ast.Node) ([]*ast.MappingValueNode, bool) {
	switch m := n.(type) {
	case *ast.MappingNode:
		return m.Values, true
	case *ast.MappingValueNode: // a mapping of one pair, in some versions of the parser
		return []*ast.MappingValueNode{m}, true
	}
	return nil, false
}

// scalar is the text of a plain value. Anchors, aliases, tags, merge keys and null are none: a policy needs no
// references, and a reference is how a small document becomes a large one.
func scalar(n any) (string, bool) {
	switch s := n.(type) {
	case *ast.StringNode:
		return s.Value, true
	case *ast.LiteralNode:
		return strings.TrimSuffix(s.Value.Value, "\n"), true
	case *ast.IntegerNode:
		return s.Token.Value, true
	case *ast.FloatNode:
		return s.Token.Value, true
	case *ast.BoolNode:
		return s.Token.Value, true
	case *ast.InfinityNode:
		return s.Token.Value, true
	case *ast.NanNode:
		return s.Token.Value, true
	}
	return "", false
}

// nearestKey is didYouMean, or the whole list when nothing is near.
func nearestKey(key string, names []string) string {
	if hint := didYouMean(key, names); hint != "" {
		return hint
	}
	sorted := make(map[string]int, len(names))
	for _, n := range names {
		sorted[n] = 0
	}
	return fmt.Sprintf(" (known here: %s)", strings.Join(keysOf(sorted), ", "))
}
