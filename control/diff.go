package control

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
)

// maxDifferences bounds what a diff names; the last line says how many more there are.
const maxDifferences = 200

// Difference is one thing that a change adds, removes or alters. Values are compact JSON without secrets.
type Difference struct {
	Path string `json:"path"`          // such as apps.demo.fence; entries of lists go by id, name or value
	Old  string `json:"old,omitempty"` // empty: added
	New  string `json:"new,omitempty"` // empty: removed
}

// String is one line as a diff has it.
func (d Difference) String() string {
	switch {
	case d.Old == "":
		return fmt.Sprintf("+ %s: %s", d.Path, d.New)
	case d.New == "":
		return fmt.Sprintf("- %s: %s", d.Path, d.Old)
	}
	return fmt.Sprintf("~ %s: %s -> %s", d.Path, d.Old, d.New)
}

// Diff lists how next differs from old, sorted by path, at most 200 lines. Secrets are compared and shown by their
// fingerprints. Pure.
func Diff(old, next Policy) []Difference {
	var out []Difference
	old, next = withoutEqual(Redact(old), Redact(next))
	compare("", treeOf(old), treeOf(next), &out)
	slices.SortStableFunc(out, func(a, b Difference) int { return strings.Compare(a.Path, b.Path) })
	if over := len(out) - maxDifferences; over > 0 {
		out = append(out[:maxDifferences], Difference{Path: "...", New: fmt.Sprintf("and %d more", over)})
	}
	return out
}

// withoutEqual takes away the apps and blocked prefixes that both have: of a large policy, most of what would be compared.
func withoutEqual(old, next Policy) (Policy, Policy) {
	apps := make(map[string]int, len(old.Apps))
	for i, a := range old.Apps {
		apps[a.ID] = i
	}
	both := make(map[netip.Prefix]bool, len(old.Blocklist)) // whether next has it too
	for _, p := range old.Blocklist {
		both[p] = false
	}
	same := make(map[string]bool)
	for _, a := range next.Apps {
		if i, had := apps[a.ID]; had && reflect.DeepEqual(old.Apps[i], a) {
			same[a.ID] = true
		}
	}
	for _, p := range next.Blocklist {
		if _, had := both[p]; had {
			both[p] = true
		}
	}
	for _, p := range []*Policy{&old, &next} {
		p.Apps = slices.DeleteFunc(slices.Clone(p.Apps), func(a App) bool { return same[a.ID] })
		p.Blocklist = slices.DeleteFunc(slices.Clone(p.Blocklist), func(b netip.Prefix) bool { return both[b] })
	}
	return old, next
}

// treeOf turns a policy into maps, with lists keyed by what names their entries, so that order does not count.
func treeOf(p Policy) any {
	b, err := json.Marshal(Redact(p))
	if err != nil {
		return nil // a Policy is always JSON
	}
	var tree any
	_ = json.Unmarshal(b, &tree)
	return keyed(tree)
}

func keyed(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = keyed(v[k])
		}
		return v
	case nil:
		return map[string]any{} // a list that nobody wrote
	case []any:
		out := make(map[string]any, len(v))
		for _, item := range v {
			out[nameOf(item)] = keyed(item)
		}
		return out
	}
	return v
}

// unkeyed turns lists back for people: maps whose entries are their own names.
func unkeyed(v any) any {
	m, isMap := v.(map[string]any)
	if !isMap {
		return v
	}
	list := len(m) > 0
	for k := range m {
		list = list && nameOf(m[k]) == k
		m[k] = unkeyed(m[k])
	}
	if !list {
		return m
	}
	var out []any
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[k])
	}
	return out
}

// nameOf is what tells an entry of a list from the others.
func nameOf(item any) string {
	m, isMap := item.(map[string]any)
	if !isMap {
		return compact(item)
	}
	for _, key := range []string{"id", "name", "node", "serial"} {
		if s, ok := m[key].(string); ok {
			return s
		}
	}
	return compact(item)
}

func compact(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	b, _ := json.Marshal(v) // made of JSON
	return string(b)
}

// compare walks two trees; what only one of them has is reported whole.
func compare(path string, old, next any, out *[]Difference) {
	a, oldIsMap := old.(map[string]any)
	b, nextIsMap := next.(map[string]any)
	if !oldIsMap || !nextIsMap {
		if o, n := shown(path, old), shown(path, next); o != n {
			*out = append(*out, Difference{Path: path, Old: o, New: n})
		}
		return
	}
	keys := maps.Clone(a)
	maps.Copy(keys, b)
	for key := range keys {
		was, had := a[key]
		is, has := b[key]
		where := strings.TrimPrefix(path+"."+key, ".")
		switch {
		case !had:
			*out = append(*out, Difference{Path: where, New: shown(where, is)})
		case !has:
			*out = append(*out, Difference{Path: where, Old: shown(where, was)})
		default:
			compare(where, was, is, out)
		}
	}
}

// shown is a value on one line; an entry that is its own name is shown as "yes".
func shown(path string, v any) string {
	s := compact(unkeyed(v))
	if path == s || strings.HasSuffix(path, "."+s) {
		return "yes"
	}
	if s == "" {
		return `""`
	}
	return s
}

// Stranded lists the apps of old that could run and that next takes away or leaves without a live node to run on, one
// sentence each. live says how many nodes are up in each region. Pure.
func Stranded(old, next Policy, live map[string]int) (out []string) {
	after := make(map[string]App, len(next.Apps))
	for _, a := range next.Apps {
		after[a.ID] = a
	}
	for _, a := range old.Apps {
		b, kept := after[a.ID]
		before, now := old.FenceRegions(a), next.FenceRegions(b)
		switch {
		case !kept:
			out = append(out, fmt.Sprintf("app %q is removed: its publishers and viewers are sent away", a.ID))
		case b.Admission.Disabled && !a.Admission.Disabled:
			out = append(out, fmt.Sprintf("app %q is disabled: its publishers and viewers are sent away", a.ID))
		case nodesIn(before, live) > 0 && nodesIn(now, live) == 0:
			out = append(out, fmt.Sprintf("app %q moves from %v to %v, where no node is up: nobody could enter", a.ID, before, now))
		}
	}
	return out
}

func nodesIn(regions []string, live map[string]int) (n int) {
	for _, r := range regions {
		n += live[r]
	}
	return n
}

// StrandError refuses a change that takes running apps away; Proposal.Force makes it all the same.
type StrandError struct{ Apps []string }

// Error lists the first apps and says what to do.
func (e *StrandError) Error() string {
	shown := e.Apps[:min(len(e.Apps), 20)]
	more := ""
	if n := len(e.Apps) - len(shown); n > 0 {
		more = fmt.Sprintf("\n  and %d more", n)
	}
	return "refused, because apps that exist would be stranded (force it with --force if that is meant):\n  " +
		strings.Join(shown, "\n  ") + more
}
