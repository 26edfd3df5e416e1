package control

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

const everySection = `
regions: [{id: eu}, {id: us}]
apps:
  - {id: a, certificates: [` + secretA + `], limits: {channels: 10, publishers: 20, viewers: 300, publisher_kbps: 4000}}
voters: {count: 3, spread: region, grace_seconds: 60}
filter: {rates: {source_stun: {per_second: 100, burst: 200}}}
alarms: {loss_percent: 5, link_delay_ms: 400, undelivered_per_mille: 10}
audit: {retention_days: 30}
`

func TestEverySectionIsReadAndStored(t *testing.T) {
	p := mustParse(t, everySection)
	want := Policy{
		Voters: Voters{3, SpreadRegion, 60},
		Filter: FilterRules{map[string]FilterRate{"source_stun": {100, 200}}},
		Alarms: Alarms{5, 400, 10}, Audit: AuditRules{30},
	}
	if p.Voters != want.Voters || !reflect.DeepEqual(p.Filter, want.Filter) || p.Alarms != want.Alarms || p.Audit != want.Audit {
		t.Errorf("read as %+v", p)
	}
	if p.Apps[0].Limits != (Limits{Channels: 10, Publishers: 20, Viewers: 300, PublisherKbps: 4000}) {
		t.Errorf("limits %+v", p.Apps[0].Limits)
	}
	doc, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := decodeDocument(doc, 0); err != nil || !reflect.DeepEqual(back, p) {
		t.Errorf("stored and read again: %+v, %v", back, err)
	}
	if doc := string(storedDoc(t, sampleYAML)); strings.Contains(doc, "voters") || strings.Contains(doc, "limits") {
		t.Errorf("what is not said must not be stored, or an older node could not read it: %s", doc)
	}
}

func TestSectionsNameEveryFault(t *testing.T) {
	bad := `regions: [{id: eu}]
apps: [{id: a, auth: app_id, limits: {viewers: -1, bitrate: 3}}]
voters: {count: 4, spread: regoin, grace_seconds: x}
alarms: {loss_percent: 101}
filter: {rates: {source_stunn: {per_second: 1, burst: 1}, flow: {per_second: 5}}}
audit: {retention_days: 99999}
`
	_, err := Parse([]byte(bad))
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		"line 2: apps[0].limits.viewers: -1 is not between 0 and 1000000",
		`unknown key "bitrate" (known here: channels, publisher_kbps, publishers, viewers)`,
		"line 3: voters.count: 4 is not 1, 3 or 5",
		`voters.spread: "regoin" is not one of region, none (did you mean "region"?)`,
		"voters.grace_seconds: must be a whole number",
		`line 5: filter.rates: unknown key "source_stunn" (did you mean "source_stun"?)`,
		"line 5: filter.rates.flow: needs per_second and burst",
		"alarms.loss_percent: 101 is not between 0 and 100",
		"audit.retention_days: 99999 is not between 0 and 3650",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("lacks %q:\n%v", want, err)
		}
	}
}
