package control

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// OwnerError refuses a change that somebody who owns some apps may not make: all that is beyond the caller's rights, by path.
type OwnerError struct{ Paths []string }

// Error lists the first paths.
func (e *OwnerError) Error() string {
	shown := e.Paths[:min(len(e.Paths), 20)]
	more := ""
	if n := len(e.Paths) - len(shown); n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	return "refused, because an app's owner may change that app alone (and of it not limits or admission.disabled, key_set, issuers, app_key, tenants); ask an operator for: " +
		strings.Join(shown, ", ") + more
}

// operatorsPart are the fields of an app that its owner may not change: they bind the owner, or reach beyond the app (nodes fetch
// key sets; issuers, app keys and tenants are names that other apps could have).
var operatorsPart = []string{"limits", "admission.disabled", "admission.key_set", "admission.issuers", "admission.app_key", "admission.tenants"}

// OwnerChange is what a document of somebody who owns apps comes to: base with the document's apps in their places. The
// document may be the whole policy, or what the owner sees of it: what it leaves out stays as it is. Apps are not
// added or removed. Anything else that differs is an *OwnerError. Secrets of base are fingerprints, or sealed. Pure.
func OwnerChange(base, document Policy, owned []string) (Policy, error) {
	next := overlaid(base, document)
	var changed []Difference
	compare("", treeOf(base), treeOf(next), &changed)
	var denied []string
	for _, d := range changed {
		if !ownersToChange(d, owned) {
			denied = append(denied, d.Path)
		}
	}
	if len(denied) > 0 {
		slices.Sort(denied)
		return base, &OwnerError{Paths: denied}
	}
	return next, nil
}

// ownersToChange judges one difference. Ids hold no dots.
func ownersToChange(d Difference, owned []string) bool {
	parts := strings.SplitN(d.Path, ".", 3)
	if len(parts) < 3 || parts[0] != "apps" || !slices.Contains(owned, parts[1]) {
		return false // also an app that is new: its path ends with its id
	}
	return !slices.ContainsFunc(operatorsPart, func(field string) bool {
		if parts[2] == field || strings.HasPrefix(parts[2], field+".") {
			return true
		}
		above, _, _ := strings.Cut(field, ".") // admission as a whole came or went
		return above == parts[2] && strings.Contains(cmp.Or(d.New, d.Old), field[len(above)+1:])
	})
}

// overlaid is base with what document says.
func overlaid(base, document Policy) Policy {
	next := base
	next.Apps, next.Regions = slices.Clone(base.Apps), slices.Clone(base.Regions)
	for _, a := range document.Apps {
		if i := slices.IndexFunc(next.Apps, func(b App) bool { return b.ID == a.ID }); i >= 0 {
			next.Apps[i] = a
		} else {
			next.Apps = append(next.Apps, a)
		}
	}
	for _, r := range document.Regions {
		if !slices.Contains(next.Regions, r) {
			next.Regions = append(next.Regions, r)
		}
	}
	// Every other section as a whole, if the document has it.
	to, from := reflect.ValueOf(&next).Elem(), reflect.ValueOf(document)
	for i := range to.NumField() {
		f := to.Type().Field(i)
		if f.IsExported() && !slices.Contains([]string{"Version", "Apps", "Regions", "Change"}, f.Name) && !from.Field(i).IsZero() &&
			(f.Name != "Blocklist" || len(document.Blocklist) > 0) {
			to.Field(i).Set(from.Field(i))
		}
	}
	return next
}
