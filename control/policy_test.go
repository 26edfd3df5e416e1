package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const (
	secretA = "5CFd2fd1755d40ecb72977518be15d3b"
	secretB = "aabbccddeeff00112233445566778899"
)

const sampleYAML = `# two regions, one app
regions: [{id: eu}, {id: us-east}]
apps:
  - id: 970CA35de60c44645bbae8a215061b33
    name: demo
    certificates: [` + secretA + `, "` + secretB + `"]
    auth: token
    fence: [eu, us-east]
    redundancy: full
blocklist: [203.0.113.0/24, 2001:db8::/32, 192.0.2.7]
`

func mustParse(t testing.TB, doc string) Policy {
	t.Helper()
	p, err := Parse([]byte(doc))
	if err != nil {
		t.Fatalf("the document should be accepted: %v\n%s", err, doc)
	}
	return p
}

func TestParseAcceptsYAMLAndJSONAlike(t *testing.T) {
	fromYAML := mustParse(t, sampleYAML)
	if a := fromYAML.Apps[0]; a.ID != "970CA35de60c44645bbae8a215061b33" || a.Certificates[1] != secretB || a.Auth != AuthToken {
		t.Fatalf("app was read as %+v", a)
	}
	if got := fromYAML.Blocklist[2].String(); got != "192.0.2.7/32" {
		t.Errorf("a bare address stands for itself, got %s", got)
	}
	asJSON, err := json.MarshalIndent(fromYAML, "", "\t") // tabs: legal in JSON, not in YAML
	if err != nil {
		t.Fatal(err)
	}
	if fromJSON := mustParse(t, string(asJSON)); !reflect.DeepEqual(fromYAML, fromJSON) {
		t.Errorf("JSON of the same policy reads differently:\n%+v\n%+v", fromYAML, fromJSON)
	}
}

func TestParseDefaultsAndOddScalars(t *testing.T) {
	p := mustParse(t, "regions: [{id: 1}]\napps: [{id: 1e5, certificates: [12345678901234567890123456789012]}]\n")
	a := p.Apps[0]
	if a.ID != "1e5" || a.Certificates[0] != "12345678901234567890123456789012" || p.Regions[0].ID != "1" {
		t.Errorf("scalars that look like numbers must keep their text: %+v", p)
	}
	if a.Auth != AuthToken || a.Redundancy != RedundancyFull || !reflect.DeepEqual(p.FenceRegions(a), []string{"1"}) {
		t.Errorf("defaults are token, full and all regions: %+v", a)
	}
}

// Every row is a document with one fault and the text that the error must hold.
func TestParseNamesEveryFault(t *testing.T) {
	cert := "certificates: [" + secretA + "]"
	for name, c := range map[string]struct{ doc, want string }{
		"unknown key":           {"regions: [{id: eu}]\nblocklst: []\n", `line 2: document: unknown key "blocklst" (did you mean "blocklist"?)`},
		"unknown key in an app": {"regions: [{id: eu}]\napps:\n  - id: a\n    fences: [eu]\n    " + cert, `line 4: apps[0]: unknown key "fences" (did you mean "fence"?)`},
		"far key":               {"zzz: 1", "(known here: admins, alarms, apps, audit, blocklist, clients, filter, nodes, regions, revoked, routes, voters)"},
		"duplicate app":         {"regions: [{id: eu}]\napps:\n  - {id: a, " + cert + "}\n  - {id: a, " + cert + "}", `line 4: apps[1].id: "a" is already the id of apps[0]`},
		"duplicate region":      {"regions: [{id: eu}, {id: eu}]", `regions[1].id: "eu" is already the id of regions[0]`},
		"missing id":            {"regions: [{}]", "regions[0].id: is missing"},
		"reserved app id":       {"regions: [{id: eu}]\napps: [{id: s, name: S, auth: app_id}]", `apps[0].id: "s" is reserved`},
		"bad id":                {"regions: [{id: e/u}]", `regions[0].id: "e/u" holds a character`},
		"long id":               {"regions: [{id: " + strings.Repeat("x", 65) + "}]", "65 characters long"},
		"unknown fence region":  {"regions: [{id: eu}]\napps: [{id: a, fence: [eo], " + cert + "}]", `apps[0].fence[0]: region "eo" is not in regions (did you mean "eu"?)`},
		"fence twice":           {"regions: [{id: eu}]\napps: [{id: a, fence: [eu, eu], " + cert + "}]", "in the fence twice"},
		"bad auth":              {"regions: [{id: eu}]\napps: [{id: a, auth: tokn, " + cert + "}]", `"tokn" is not one of token, app_id (did you mean "token"?)`},
		"bad redundancy":        {"regions: [{id: eu}]\napps: [{id: a, redundancy: most, " + cert + "}]", `"most" is not one of full, adaptive, off`},
		"no certificate":        {"regions: [{id: eu}]\napps: [{id: a}]", "apps[0].certificates: is empty"},
		"three certificates":    {"regions: [{id: eu}]\napps: [{id: a, certificates: [" + secretA + "," + secretB + "," + secretA + "]}]", "at most 2"},
		"same certificate":      {"regions: [{id: eu}]\napps: [{id: a, certificates: [" + secretA + "," + secretA + "]}]", "is the same as apps[0].certificates[0]"},
		"short certificate":     {"regions: [{id: eu}]\napps: [{id: a, certificates: [hunter2hunter2]}]", "is 14 bytes long"},
		"odd fingerprint":       {"regions: [{id: eu}]\napps: [{id: a, certificates: ['sha256:12345']}]", "neither a fingerprint nor a certificate"},
		"no regions":            {"apps: [{id: a, " + cert + "}]", "regions: is empty, but there are apps"},
		"bad prefix":            {"blocklist: [10.0.0.0/33]", `blocklist[0]: "10.0.0.0/33" is neither`},
		"host bits":             {"blocklist: [10.0.0.1/8]", "did you mean 10.0.0.0/8?"},
		"duplicate prefix":      {"blocklist: [10.0.0.0/8, 10.0.0.0/8]", "blocklist[1]: 10.0.0.0/8 is already blocklist[0]"},
		"overlap":               {"blocklist: [10.1.0.0/16, 192.0.2.0/24, 10.0.0.0/8]", "blocklist[0]: 10.1.0.0/16 lies inside 10.0.0.0/8 (blocklist[2])"},
		"everything blocked":    {"blocklist: ['::/0']", "would block every address"},
		"mapped":                {"blocklist: ['::ffff:10.0.0.0/104']", "write it as IPv4"},
		"not a list":            {"blocklist: yes", "line 1: blocklist: must be a list"},
		"not a mapping":         {"[1, 2]", "must be a mapping"},
		"nested text":           {"regions: [{id: [eu]}]", "regions[0].id: must be a text"},
		"null":                  {"regions: [{id: null}]", "regions[0].id: must be a text"},
		"alias":                 {"regions: &r [{id: eu}]\napps: *r", "must be a list"},
		"two documents":         {"regions: []\n---\nregions: []\n", "exactly one document"},
		"empty":                 {"", "exactly one document"},
		"deep":                  {"regions: " + strings.Repeat("[", 5000), "nested more than"},
		"deep dashes":           {strings.Repeat("- ", 100000), "nested more than"},
		"not UTF-8":             {"regions: \xff", "not UTF-8"},
		"huge":                  {strings.Repeat(" ", MaxDocumentBytes+1), "at most 5242880"},
		"not YAML":              {"regions: [{id: eu}\napps: {", "is not valid YAML"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(c.doc))
			var problems Problems
			if !errors.As(err, &problems) {
				t.Fatalf("must be refused with Problems, got %v", err)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("the error should say %q:\n%v", c.want, err)
			}
		})
	}
}

func TestParseReportsAllProblemsAtOnceAndNoSecret(t *testing.T) {
	doc := `regions: [{id: eu}, {id: "bad id"}]
apps:
  - {id: a, certificates: ["my very secret value"], auth: nope, fence: [mars]}
  - {id: a, certificates: [short], colour: red}
blocklist: [10.0.0.0/8, 10.2.0.0/16, nonsense]
`
	_, err := Parse([]byte(doc))
	var problems Problems
	if !errors.As(err, &problems) || len(problems) < 8 {
		t.Fatalf("nine faults, but the error names %d:\n%v", len(problems), err)
	}
	if strings.Contains(err.Error(), "secret value") || strings.Contains(err.Error(), "short") {
		t.Errorf("the error shows a secret:\n%v", err)
	}
	_, err = Parse([]byte("regions: [{id: eu}]\napps: [{id: a, certificates: [\"" + secretA + "]}]"))
	if err == nil || strings.Contains(err.Error(), secretA) {
		t.Errorf("a syntax error must not quote the source: %v", err)
	}
}

func TestTooManyEntriesAreCountedNotListed(t *testing.T) {
	var doc strings.Builder
	doc.WriteString("regions:\n")
	for i := range MaxRegions + 50 {
		fmt.Fprintf(&doc, "  - id: r%d\n", i)
	}
	if _, err := Parse([]byte(doc.String())); err == nil || !strings.Contains(err.Error(), "at most 256") {
		t.Errorf("must name the limit: %v", err)
	}
}

func TestRedactAndMergeRoundTrip(t *testing.T) {
	old := mustParse(t, sampleYAML)
	shown, err := json.Marshal(Redact(old))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(shown, []byte(secretA)) || !bytes.Contains(shown, []byte(Fingerprint(secretA))) {
		t.Fatalf("redacted document: %s", shown)
	}
	if old.Apps[0].Certificates[0] != secretA {
		t.Fatal("Redact changed its argument")
	}
	merged, err := Merge(mustParse(t, string(shown)), old)
	if err != nil || !reflect.DeepEqual(merged, old) {
		t.Fatalf("what was shown and applied again must be the same policy: %v\n%+v", err, merged)
	}
}

func TestMergeRefusesUnknownAndForeignFingerprints(t *testing.T) {
	old := mustParse(t, "regions: [{id: eu}]\napps: [{id: a, certificates: ["+secretA+"]}, {id: b, certificates: ["+secretB+"]}]")
	next := mustParse(t, `regions: [{id: eu}]
apps: [{id: a, certificates: ["`+Fingerprint(secretB)+`"]}, {id: c, certificates: ["sha256:00000000"]}]`)
	_, err := Merge(next, old)
	var problems Problems
	if !errors.As(err, &problems) || len(problems) != 2 {
		t.Fatalf("app a must not get b's secret and c has none to name; got %v", err)
	}
	same := mustParse(t, `regions: [{id: eu}]
apps: [{id: a, certificates: ["`+Fingerprint(secretA)+`", "`+secretA+`"]}]`)
	if _, err := Merge(same, old); err == nil {
		t.Error("a fingerprint and the secret that it names are one certificate twice")
	}
}

// The law behind overlap detection, against a slow and obvious oracle.
func TestBlocklistOverlapsMatchBruteForce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p Policy
		for range rapid.IntRange(0, 12).Draw(t, "n") {
			bits := rapid.IntRange(1, 6).Draw(t, "bits")
			value := rapid.Uint8().Draw(t, "value") &^ (0xff >> bits)
			p.Blocklist = append(p.Blocklist, mustPrefix(fmt.Sprintf("%d.0.0.0/%d", value, bits)))
		}
		faulty := false
		for i := range p.Blocklist {
			for j := range i {
				faulty = faulty || p.Blocklist[i].Overlaps(p.Blocklist[j])
			}
		}
		if err := Validate(p); (err != nil) != faulty {
			t.Fatalf("overlap in %v: brute force says %v, Validate says %v", p.Blocklist, faulty, err)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(sampleYAML))
	f.Add([]byte(`{"regions":[{"id":"eu"}],"apps":[],"blocklist":["10.0.0.0/8"]}`))
	f.Add([]byte("a: &x [*x]\n? b\n: !!binary c\n<<: d"))
	f.Add([]byte("regions: |\n  text\napps: >-\n  - {"))
	f.Add([]byte(`{"regions":[],"apps":[],"blocklist":[],"nodes":{}}`))
	f.Add([]byte(`{"regions":[{"id":"eu"}],"apps":[{"id":"a","name":"\u003c\u0026","auth":"app_id","redundancy":"full"}],"blocklist":[]}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		p, err := Parse(doc)
		if err != nil {
			_ = err.Error()
			return
		}
		if long, err := Parse(append([]byte(" "), doc...)); bytes.HasPrefix(doc, []byte("{")) && (err != nil || !reflect.DeepEqual(p, long)) {
			t.Fatalf("read the short way it is %+v, the long way %+v (%v)", p, long, err)
		}
		stored, err := encodeDocument(p)
		if err != nil {
			t.Fatalf("accepted but cannot be stored: %v", err)
		}
		again, err := decodeDocument(stored, 0)
		if err != nil || len(Diff(p, again)) > 0 {
			t.Fatalf("stored form changed the policy: %v\n%+v\n%+v", err, p, again)
		}
		if _, err := Parse(stored); err != nil {
			t.Fatalf("stored form is not itself acceptable: %v\n%s", err, stored)
		}
	})
}
