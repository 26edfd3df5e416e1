package scenario

import (
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// Problem is one fault of a file. Line is 0 if it belongs to no line.
type Problem struct {
	Line   int
	Path   string
	Reason string
}

// String is one line for people.
func (p Problem) String() string {
	var b strings.Builder
	if p.Line > 0 {
		fmt.Fprintf(&b, "line %d: ", p.Line)
	}
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	return b.String() + p.Reason
}

// Problems is everything that is wrong with a file, in the order of its lines.
type Problems []Problem

// Error lists one problem a line.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, one := range p {
		lines[i] = one.String()
	}
	return strings.Join(lines, "\n")
}

// collector gathers problems and knows where each path of the file was written.
type collector struct {
	problems Problems
	lines    map[string]int
}

func (c *collector) add(path, format string, args ...any) {
	path = strings.TrimPrefix(path, ".") // of a link by itself
	c.problems = append(c.problems, Problem{Line: c.line(path), Path: path, Reason: fmt.Sprintf(format, args...)})
}

// line of a path, or of its nearest parent that was written.
func (c *collector) line(path string) int {
	for path != "" {
		if line, ok := c.lines[path]; ok {
			return line
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return 0
}

// err returns what was found, sorted, without repetitions; nil if nothing was.
func (c *collector) err() error {
	if len(c.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(c.problems, func(a, b Problem) int { return a.Line - b.Line })
	return slices.Compact(c.problems)
}

// locate notes the line of every key and item beneath a node of the syntax tree.
func locate(n ast.Node, path string, lines map[string]int) {
	note := func(path string, at ast.Node) {
		if t := at.GetToken(); t != nil && t.Position != nil {
			lines[path] = t.Position.Line
		}
	}
	switch n := n.(type) {
	case *ast.AnchorNode:
		locate(n.Value, path, lines)
	case *ast.SequenceNode:
		for i, item := range n.Values {
			at := fmt.Sprintf("%s[%d]", path, i)
			note(at, item)
			// A block mapping's own token is its first colon; its first key says where it begins.
			if m, ok := item.(*ast.MappingNode); ok && len(m.Values) > 0 {
				note(at, m.Values[0].Key)
			}
			locate(item, at, lines)
		}
	case *ast.MappingNode:
		for _, kv := range n.Values {
			locate(kv, path, lines)
		}
	case *ast.MappingValueNode:
		at := keyPath(path, n)
		note(at, n.Key)
		locate(n.Value, at, lines)
	}
}

// keyPath is the path of a key beneath another.
func keyPath(path string, n *ast.MappingValueNode) string {
	key := strings.Trim(n.Key.String(), `"'`)
	if path == "" {
		return key
	}
	return path + "." + key
}
