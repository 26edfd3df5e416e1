package control

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func diffText(old, next Policy) string {
	var b strings.Builder
	for _, d := range Diff(old, next) {
		fmt.Fprintln(&b, d)
	}
	return b.String()
}

func TestDiffNamesWhatChangedAndNoSecret(t *testing.T) {
	old := mustParse(t, sampleYAML)
	next := mustParse(t, strings.NewReplacer("fence: [eu, us-east]", "fence: [us-east]", "name: demo", "name: shown", ", 192.0.2.7", "",
		secretB, "0123456789abcdef0123456789abcdef").Replace(sampleYAML)+"voters: {count: 3}\n")
	got := diffText(old, next)
	want := `- apps.970CA35de60c44645bbae8a215061b33.certificates.` + Fingerprint(secretB) + `: yes
+ apps.970CA35de60c44645bbae8a215061b33.certificates.` + Fingerprint("0123456789abcdef0123456789abcdef") + `: yes
- apps.970CA35de60c44645bbae8a215061b33.fence.eu: yes
~ apps.970CA35de60c44645bbae8a215061b33.name: demo -> shown
- blocklist.192.0.2.7/32: yes
+ voters: {"count":3}
`
	sorted := func(s string) map[string]bool {
		m := make(map[string]bool)
		for _, l := range strings.Split(s, "\n") {
			m[l] = true
		}
		return m
	}
	if !reflect.DeepEqual(sorted(got), sorted(want)) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if strings.Contains(got, secretB) || strings.Contains(got, "0123456789abcdef0") {
		t.Error("the diff shows a secret")
	}
	if first := diffText(Policy{}, old); !strings.Contains(first, `+ regions.eu: {"id":"eu"}`) {
		t.Errorf("the first policy is all additions:\n%s", first)
	}
}

func TestDiffIsEmptyForTheSameInAnotherOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ids := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z]{1,8}`), 1, 8, rapid.ID[string]).Draw(t, "regions")
		shuffled := rapid.Permutation(ids).Draw(t, "order")
		var a, b Policy
		for i := range ids {
			a.Regions, b.Regions = append(a.Regions, Region{ids[i]}), append(b.Regions, Region{shuffled[i]})
		}
		if d := Diff(a, b); len(d) != 0 {
			t.Fatalf("order is no difference: %v", d)
		}
	})
}

func TestStrandedNamesAppsThatLoseTheirPlace(t *testing.T) {
	old := mustParse(t, "regions: [{id: eu}, {id: us}]\napps: [{id: a, auth: app_id}, {id: b, auth: app_id}, {id: c, auth: app_id, fence: [us]}]")
	live := map[string]int{"eu": 2}
	for name, c := range map[string]struct{ next, want string }{
		"nothing":          {"regions: [{id: eu}, {id: us}]\napps: [{id: a, auth: app_id}, {id: b, auth: app_id}, {id: c, auth: app_id}]", ""},
		"removed":          {"regions: [{id: eu}]\napps: [{id: a, auth: app_id}, {id: c, auth: app_id}]", `app "b" is removed`},
		"disabled":         {"regions: [{id: eu}]\napps: [{id: a, auth: app_id, admission: {disabled: true}}, {id: b, auth: app_id}, {id: c, auth: app_id}]", `app "a" is disabled`},
		"moved to nowhere": {"regions: [{id: eu}, {id: us}]\napps: [{id: a, auth: app_id, fence: [us]}, {id: b, auth: app_id}, {id: c, auth: app_id}]", `app "a" moves from [eu us] to [us], where no node is up`},
		"never had a node": {"regions: [{id: eu}, {id: us}]\napps: [{id: a, auth: app_id}, {id: b, auth: app_id}, {id: c, auth: app_id, fence: [us]}]", ""},
	} {
		got := strings.Join(Stranded(old, mustParse(t, c.next), live), "\n")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
