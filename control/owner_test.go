package control

import (
	"errors"
	"fmt"
	"testing"
)

func TestAnOwnerChangesItsAppAlone(t *testing.T) {
	base, err := Parse([]byte(`
regions: [{id: eu}, {id: us}]
apps:
  - {id: mine, certificates: [` + secretA + `], limits: {viewers: 10}}
  - {id: theirs, auth: app_id}
  - {id: closed, auth: app_id, admission: {disabled: true}}
blocklist: [203.0.113.0/24]
`))
	if err != nil {
		t.Fatal(err)
	}
	fp := Fingerprint(secretA)
	mine := `{id: mine, limits: {viewers: 10}, certificates: [` + secretB + `, "` + fp + `"], fence: [eu]}`
	for name, c := range map[string]struct{ document, denied string }{
		"what it sees, certificate rotated, fence narrowed": {"regions: [{id: eu}, {id: us}]\napps: [" + mine + "]", ""},
		"the whole policy":        {"regions: [{id: eu}, {id: us}]\napps: [{id: theirs, auth: app_id}, {id: closed, auth: app_id, admission: {disabled: true}}, " + mine + "]\nblocklist: [203.0.113.0/24]", ""},
		"another app":             {"regions: [{id: eu}]\napps: [{id: theirs, auth: app_id, name: x}]", "[apps.theirs.name]"},
		"a new app":               {"regions: [{id: eu}]\napps: [{id: fresh, auth: app_id}]", "[apps.fresh]"},
		"an app that it may own":  {"regions: [{id: eu}]\napps: [{id: later, auth: app_id}]", "[apps.later]"},
		"limits":                  {"regions: [{id: eu}]\napps: [{id: mine, certificates: ['" + fp + "'], limits: {viewers: 99}}]", "[apps.mine.limits.viewers]"},
		"no limits":               {"regions: [{id: eu}]\napps: [{id: mine, certificates: ['" + fp + "']}]", "[apps.mine.limits]"},
		"a key set":               {"regions: [{id: eu}]\napps: [{id: mine, certificates: ['" + fp + "'], limits: {viewers: 10}, admission: {key_set: 'https://192.0.2.1/keys', banned: [eve]}}]", "[apps.mine.admission]"},
		"a disabled app enabled":  {"regions: [{id: eu}]\napps: [{id: closed, auth: app_id}]", "[apps.closed.admission]"},
		"regions, filter, admins": {"regions: [{id: eu}, {id: ap}]\nfilter: {rates: {peer: {per_second: 1, burst: 1}}}\nadmins: []\nnodes: {n1: {state: drained}}\nblocklist: [198.51.100.0/24]", "[blocklist.198.51.100.0/24 blocklist.203.0.113.0/24 filter nodes regions.ap]"},
	} {
		doc, err := Parse([]byte(c.document))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		next, err := OwnerChange(Redact(base), doc, []string{"mine", "closed", "later"})
		var denied *OwnerError
		switch {
		case c.denied == "" && (err != nil || len(next.Apps) != 3 || fmt.Sprint(next.Apps[0].Fence) != "[eu]" || len(next.Blocklist) != 1):
			t.Errorf("%s: %+v %v", name, next, err)
		case c.denied != "" && (!errors.As(err, &denied) || fmt.Sprint(denied.Paths) != c.denied):
			t.Errorf("%s: %v, want %s", name, err, c.denied)
		}
	}
}
