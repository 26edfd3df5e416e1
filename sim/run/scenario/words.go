package scenario

import (
	"fmt"
	"regexp"
	"strings"
)

// How the library says that a value has the wrong shape, and that a key is there twice.
var (
	unmarshal = regexp.MustCompile(`^cannot unmarshal (.+) into Go .*of type (\S+)`)
	usedWhere = regexp.MustCompile(`^(\S+) was used where (\S+) is expected`)
	twice     = regexp.MustCompile(`^mapping key ("[^"]*") already defined at \[(\d+):`)
)

// shapes are the library's words and Go's for what a file may hold, and ours.
var shapes = map[string]string{
	"string": "text", "uint64": "a number", "int64": "a negative number", "float64": "a fraction", "int": "a number", "integer": "a number",
	"float": "a fraction", "bool": "true or false", "boolean": "true or false", "sequence": "a list", "mapping": "a mapping of keys to values", "null": "nothing",
}

// inWords puts the library's message about a shape into the words of the file: Go's names mean nothing to its author.
func inWords(message string) string {
	if m := twice.FindStringSubmatch(message); m != nil {
		return fmt.Sprintf("the key %s is there already, at line %s", m[1], m[2])
	}
	m := unmarshal.FindStringSubmatch(message)
	if m == nil {
		m = usedWhere.FindStringSubmatch(message)
	}
	if m == nil {
		return message
	}
	return fmt.Sprintf("this is %s, want %s", shape(m[1]), wanted(m[2]))
}

func shape(name string) string {
	switch {
	case strings.HasPrefix(name, "[]"):
		return shapes["sequence"]
	case strings.HasPrefix(name, "map["):
		return shapes["mapping"]
	}
	return or(shapes[name], name)
}

func wanted(name string) string {
	switch {
	case strings.HasPrefix(name, "uint"):
		return "a whole number of 0 or more"
	case strings.HasPrefix(name, "int"):
		return "a whole number"
	}
	return shape(name)
}
