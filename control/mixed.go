package control

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Versions of this program that run side by side. A document is refused by whoever does not know one of its fields: a field
// that is skipped is a rule that is not enforced. On a voter that would stop the log, so the leader asks every voter which
// fields it knows, with its public key, and refuses a document with others while such a voter is there. A node that only
// follows keeps the policy that it has, says so, and counts as lagging.

// fieldsKnown lists the paths of the stored document that this program knows, such as apps[].limits.viewers; * is any key.
func fieldsKnown() []string {
	known := make(map[string]bool)
	typeFields("", reflect.TypeFor[storedPolicy](), known)
	return slices.Sorted(maps.Keys(known))
}

func typeFields(path string, t reflect.Type, known map[string]bool) {
	switch t.Kind() {
	case reflect.Pointer:
		typeFields(path, t.Elem(), known)
	case reflect.Slice:
		typeFields(path+"[]", t.Elem(), known)
	case reflect.Map:
		known[path+".*"] = true
		typeFields(path+".*", t.Elem(), known)
	case reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			switch {
			case f.Anonymous:
				typeFields(path, f.Type, known)
			case f.IsExported() && name != "" && name != "-":
				where := strings.TrimPrefix(path+"."+name, ".")
				known[where] = true
				typeFields(where, f.Type, known)
			}
		}
	}
}

// fieldsUsed lists the paths that a document has, keys of maps as *.
func fieldsUsed(document []byte) ([]string, error) {
	var tree any
	if err := json.Unmarshal(document, &tree); err != nil {
		return nil, err
	}
	known := make(map[string]bool)
	typeFields("", reflect.TypeFor[storedPolicy](), known)
	used := make(map[string]bool)
	treeFields("", tree, known, used)
	return slices.Sorted(maps.Keys(used)), nil
}

func treeFields(path string, v any, known, used map[string]bool) {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			treeFields(path+"[]", item, known, used)
		}
	case map[string]any:
		for key, item := range v {
			if known[path+".*"] {
				key = "*"
			}
			where := strings.TrimPrefix(path+"."+key, ".")
			used[where] = true
			treeFields(where, item, known, used)
		}
	}
}

// readableBy refuses a document with fields that a voter has said it does not know. Voters that have not said are not in the way:
// they are gone, or the next leader's business. Voters that know all fields of this program, which wrote the document, know the
// document's.
func (c *Control) readableBy(voters []string, document []byte) error {
	older := make(map[string][]string) // the fields that they know
	c.mu.Lock()
	for _, v := range voters {
		fields := c.voterKeys[v].fields
		if len(fields) > 0 && slices.ContainsFunc(c.fields, func(f string) bool { return !slices.Contains(fields, f) }) {
			older[v] = fields
		}
	}
	c.mu.Unlock()
	if len(older) == 0 {
		return nil
	}
	used, err := fieldsUsed(document)
	if err != nil {
		return err
	}
	var problems Problems
	for _, v := range slices.Sorted(maps.Keys(older)) {
		for _, f := range used {
			if !slices.Contains(older[v], f) {
				c.askAgain(v)
				problems.add(f, 0, "voter %s runs an older version of this program, which does not know this field and would stop: upgrade that node first", v)
			}
		}
	}
	return problems.err()
}

// askAgain has a voter's key and fields asked for soon: it may be upgraded by then.
func (c *Control) askAgain(voter string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.voterKeys[voter]
	k.asked = time.Time{}
	c.voterKeys[voter] = k
}

// unreadable notes that a version which a voter signed cannot be read here.
func (c *Control) unreadable(version uint64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if version > c.unread {
		c.unread = version
		c.unreadWhy = fmt.Sprintf("version %d cannot be read here (%v); version %d stays in force", version, err, c.policy.Version)
	}
}
