package control

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestEveryFieldOfADocumentIsKnown(t *testing.T) {
	p, err := Parse([]byte(sampleYAML))
	if err != nil {
		t.Fatal(err)
	}
	p.Nodes = map[string]NodeState{"n1": {State: NodeDrained}}
	p.Filter.Rates = map[string]FilterRate{"peer": {PerSecond: 1, Burst: 2}}
	p.vault = []vaultKey{{ID: "k", Wraps: map[string][]byte{"r": {1}}}}
	doc, err := encodeDocument(p)
	if err != nil {
		t.Fatal(err)
	}
	used, err := fieldsUsed(doc)
	if err != nil || !slices.Contains(used, "filter.rates.*.per_second") || !slices.Contains(used, "apps[].id") {
		t.Fatalf("%v %v", used, err)
	}
	for _, f := range used {
		if !slices.Contains(fieldsKnown(), f) {
			t.Errorf("%s is written and not known", f)
		}
	}
	if used, _ := fieldsUsed([]byte(`{"apps":[{"colour":1}]}`)); !slices.Contains(used, "apps[].colour") {
		t.Errorf("a field of a later version is not seen: %v", used)
	}
}

// A voter of the version before keeps the leader from agreeing on what it cannot read; everything else goes on.
func TestADocumentThatAVoterCannotReadIsRefused(t *testing.T) {
	bubble(t, 20*time.Millisecond, func(t *testing.T, m *mesh) {
		for _, v := range []string{"v1", "v2", "v3"} {
			m.startWith(v, 3, func(c *Control, _ *node) {
				if v == "v3" {
					c.fields = slices.DeleteFunc(fieldsKnown(), func(f string) bool { return f == "apps[].residual_ppm" })
				}
			})
		}
		m.until(20*time.Second, "led by another than v3", func() bool {
			l := m.leader()
			if l != nil && l.name == "v3" {
				_ = l.c.HandOver("v1")
			}
			return l != nil && l.name != "v3"
		})
		apply(t, m.get("v1"), numbered(1))
		time.Sleep(3 * time.Second) // the leader has asked all voters
		newer := []byte("regions: [{id: eu}]\napps: [{id: demo, auth: app_id, redundancy: adaptive, residual_ppm: 50}]\n")
		_, err := m.get("v2").c.change(context.Background(), newer, nil)
		var problems Problems
		if !errors.As(err, &problems) || problems[0].Path != "apps[].residual_ppm" || !strings.Contains(err.Error(), "voter v3 runs an older version") {
			t.Errorf("%v", err)
		}
		if p := apply(t, m.get("v3"), numbered(2)); p.Version != 2 {
			t.Errorf("version %d", p.Version)
		}
	})
}

// A node of the version before keeps its policy, says why, and asks no second time for what it cannot read.
func TestANodeThatCannotReadAVersionSaysSoAndKeepsItsOwn(t *testing.T) {
	c, enforced := follower(t, signed(t, "v1", 5, storedDoc(t, sampleYAML)))
	c.fetchNow(t.Context())
	from := `{"regions":[],"apps":[{"id":"a","auth":"token","redundancy":"full","colour":"red"}],"blocklist":[]}`
	e := signed(t, "v1", 99, []byte(from))
	c.hear("f9", request{Version: 99, Envelope: &e})
	c.fetchNow(t.Context())
	got := c.Enforcement()
	if len(*enforced) != 1 || got.Version != 5 || !strings.Contains(got.Trouble, "colour") || !strings.Contains(got.Trouble, "upgrade this node") || !strings.Contains(got.Trouble, "version 5 stays") {
		t.Errorf("enforced %v, says %+v", *enforced, got)
	}
	if s := c.Status(); s.Refused != 1 {
		t.Errorf("asked again for what cannot be read: %+v", s)
	}
}
