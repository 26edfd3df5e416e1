package document

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

const (
	// MaxSize bounds a document, in bytes.
	MaxSize = 8 << 20
	// maxDepth bounds nesting: nothing that people write comes near it, and parsers recurse.
	maxDepth = 32
)

// ErrTooLarge is what Decode's error is, by errors.Is, if the document is larger or nested deeper than anybody should parse.
var ErrTooLarge = errors.New("too large")

// tooLarge says how.
type tooLarge struct{ error }

func (tooLarge) Is(target error) bool { return target == ErrTooLarge }

// Decode fills v, a pointer to a struct with yaml tags, from one YAML or JSON document of at most MaxSize bytes.
// Unknown keys are errors with line and nearest valid key, all at once; then duplicate keys and values of the
// wrong type are, with line and column. An empty document leaves v as it is.
func Decode(data []byte, v any) (err error) {
	// The YAML library panics on some malformed documents (an alias or tag where a list is wanted, for one); that is the
	// document's fault, not the program's.
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("not a document that can be read: %v", r)
		}
	}()
	return decode(data, v)
}

func decode(data []byte, v any) error {
	if len(data) > MaxSize {
		return tooLarge{fmt.Errorf("%d bytes, at most %d", len(data), MaxSize)}
	}
	if err := tooDeep(data); err != nil {
		return tooLarge{err}
	}
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return tidy(err)
	}
	if len(file.Docs) > 1 {
		return fmt.Errorf("line %d: a second document, only one is read", file.Docs[1].GetToken().Position.Line)
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		return nil
	}
	if errs := unknown(file.Docs[0].Body, reflect.TypeOf(v).Elem(), ""); len(errs) > 0 {
		return errors.Join(errs...)
	}
	if err := yaml.UnmarshalWithOptions(data, v, yaml.Strict()); err != nil {
		return tidy(err)
	}
	return nil
}

// tooDeep refuses documents whose flow brackets or indentation nest beyond maxDepth.
func tooDeep(data []byte) error {
	depth, line := 0, 1
	for i, b := range data {
		switch b {
		case '\n':
			line++
			if indent := leading(data[i+1:]); indent > 8*maxDepth {
				return fmt.Errorf("line %d: indented by %d spaces, at most %d", line, indent, 8*maxDepth)
			}
		case '[', '{':
			if depth++; depth > maxDepth {
				return fmt.Errorf("line %d: nested more than %d deep", line, maxDepth)
			}
		case ']', '}':
			depth = max(0, depth-1)
		}
	}
	return nil
}

func leading(b []byte) int {
	n := 0
	for n < len(b) && (b[n] == ' ' || b[n] == '-') {
		n++
	}
	return n
}

// tidy keeps the first line of a goccy error ("[3:5] message"); the rest draws the source, which may hold secrets.
func tidy(err error) error {
	first, _, _ := strings.Cut(err.Error(), "\n")
	if strings.HasPrefix(first, "[") {
		if pos, msg, ok := strings.Cut(first[1:], "] "); ok {
			line, column, _ := strings.Cut(pos, ":")
			return fmt.Errorf("line %s, column %s: %s", line, column, msg)
		}
	}
	return errors.New(first)
}

// unknown walks the document beside the type and lists keys that the type does not have.
func unknown(n ast.Node, t reflect.Type, path string) []error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	var errs []error
	switch n := n.(type) {
	case *ast.AnchorNode:
		return unknown(n.Value, t, path)
	case *ast.SequenceNode:
		if t.Kind() == reflect.Slice {
			for i, item := range n.Values {
				errs = append(errs, unknown(item, t.Elem(), fmt.Sprintf("%s[%d]", path, i))...)
			}
		}
	case *ast.MappingNode:
		for _, kv := range n.Values {
			errs = append(errs, unknownKey(kv, t, path)...)
		}
	case *ast.MappingValueNode:
		errs = append(errs, unknownKey(n, t, path)...)
	}
	return errs
}

func unknownKey(kv *ast.MappingValueNode, t reflect.Type, path string) []error {
	if t.Kind() == reflect.Map {
		return unknown(kv.Value, t.Elem(), path)
	}
	if t.Kind() != reflect.Struct || customDecoder(t) {
		return nil
	}
	key := strings.Trim(kv.Key.String(), `"'`)
	fields := Keys(t)
	if f, ok := fields[key]; ok {
		return unknown(kv.Value, f, join(path, key))
	}
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	hint := ""
	if near := Nearest(key, names); near != "" {
		hint = fmt.Sprintf(", did you mean %q?", near)
	}
	return []error{fmt.Errorf("line %d: unknown key %q%s", kv.Key.GetToken().Position.Line, join(path, key), hint)}
}

// customDecoder says that a type reads YAML by its own method, so that its fields are not its keys.
func customDecoder(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	_, a := p.MethodByName("UnmarshalYAML")
	_, b := p.MethodByName("UnmarshalText")
	return a || b
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// Keys lists the yaml keys of a struct type and the types behind them; inlined structs are included.
func Keys(t reflect.Type) map[string]reflect.Type {
	keys := make(map[string]reflect.Type)
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case name == "-" || !f.IsExported():
		case strings.Contains(options, "inline"):
			for k, v := range Keys(f.Type) {
				keys[k] = v
			}
		case name == "":
			keys[strings.ToLower(f.Name)] = f.Type
		default:
			keys[name] = f.Type
		}
	}
	return keys
}
