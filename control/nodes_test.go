package control

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

const opsYAML = `nodes:
  fra: {state: drained, deadline: 2026-11-22T03:30:00Z}
  iad: {state: cordoned}
revoked: [{node: sin, reason: stolen}, {serial: "ab01"}]
admins:
  - {name: alice, role: operator, token: "sha256:` + hash64 + `"}
  - {name: shop, role: app, apps: [a], token: "sha256:` + hash64b + `", expires: 2027-01-01T00:00:00Z}
`

const (
	hash64  = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	hash64b = "1123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
)

func TestNodeSectionsAreReadAndSurviveStorage(t *testing.T) {
	p := mustParse(t, sampleYAML+opsYAML)
	if n := p.Nodes["fra"]; n.State != NodeDrained || n.Deadline.Unix() != 1795318200 {
		t.Errorf("fra: %+v", n)
	}
	if !p.Revoked[0].Matches("sin", "77") || !p.Revoked[1].Matches("any", "ab01") || p.Revoked[1].Matches("any", "") || p.Revoked[0].Matches("", "") {
		t.Errorf("revoked: %+v", p.Revoked)
	}
	doc, err := encodeDocument(p)
	if err != nil {
		t.Fatal(err)
	}
	back, err := decodeDocument(doc, 0)
	if err != nil || !reflect.DeepEqual(back, p) {
		t.Errorf("stored and read again: %v\n%+v\n%+v", err, p, back)
	}
}

func TestADocumentWithoutASectionKeepsItAndAnEmptyOneClearsIt(t *testing.T) {
	old := mustParse(t, sampleYAML+opsYAML)
	kept, err := Merge(mustParse(t, sampleYAML), old)
	if err != nil || !reflect.DeepEqual(kept.Nodes, old.Nodes) || !reflect.DeepEqual(kept.Revoked, old.Revoked) || !reflect.DeepEqual(kept.Admins, old.Admins) {
		t.Errorf("left out, but not kept: %v %+v", err, kept)
	}
	cleared, err := Merge(mustParse(t, sampleYAML+"nodes: {}\nrevoked: []\nadmins: []\n"), old)
	if err != nil || len(cleared.Nodes)+len(cleared.Revoked)+len(cleared.Admins) != 0 {
		t.Errorf("empty, but not cleared: %v %+v", err, cleared)
	}
	// What was cleared stays cleared, also after storage.
	doc, _ := encodeDocument(cleared)
	stored, _ := decodeDocument(doc, 3)
	if again, _ := Merge(mustParse(t, sampleYAML), stored); len(again.Nodes)+len(again.Revoked)+len(again.Admins) != 0 {
		t.Errorf("came back: %+v", again)
	}
}

func TestParseNamesEveryFaultOfTheNodeSections(t *testing.T) {
	token := `token: "sha256:` + hash64 + `"`
	for doc, want := range map[string]string{
		"nodes: [fra]":                   "nodes: must be a mapping of names",
		"nodes: {Fra: {state: drained}}": `"Fra" is not the name of a node`,
		"nodes: {fra: {state: drain}}":   `nodes.fra.state: "drain" is not one of drained, cordoned (did you mean "drained"?)`,
		"nodes: {fra: {}}":               `nodes.fra.state: "" is not one of`,
		"nodes:\n  fra: {state: drained}\n  fra: {state: drained}":        "already defined",
		"nodes: {fra: {state: drained, deadline: soon}}":                  `nodes.fra.deadline: "soon" is not a time`,
		"nodes: {fra: {state: cordoned, deadline: 2026-11-22T03:30:00Z}}": "nodes.fra.deadline: goes with state drained",
		"nodes: {fra: {state: drained, until: 1}}":                        `nodes.fra: unknown key "until"`,
		"revoked: [{}]":                    "revoked[0]: needs either node or serial",
		"revoked: [{node: a, serial: 1f}]": "revoked[0]: needs either node or serial",
		"revoked: [{node: A_B}]":           `revoked[0].node: "A_B" is not the name`,
		"revoked: [{serial: 'AB:CD'}]":     "revoked[0].serial: \"AB:CD\" is not a certificate's serial",
		"revoked: [{serial: '00ab'}]":      "no leading zeros",
		"revoked: [{node: a, reason: " + strings.Repeat("x", 129) + "}]":                             "revoked[0].reason: is 129 bytes",
		"admins: [{name: a, role: root, " + token + "}]":                                             `"root" is not one of operator, auditor, metrics, app`,
		"admins: [{name: a, role: app, " + token + "}]":                                              "admins[0].apps: is empty",
		"admins: [{name: a, role: auditor, apps: [x], " + token + "}]":                               `goes with role "app" alone`,
		"admins: [{name: a, role: auditor, token: hunter2}]":                                         "never the token itself",
		"admins: [{name: 'A B', role: auditor, " + token + "}]":                                      "admins[0].name",
		"admins: [{name: a, role: auditor, " + token + "}, {name: a, role: auditor, " + token + "}]": "is already the name of admins[0]",
	} {
		if _, err := Parse([]byte(doc)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\nshould be refused with %q: %v", doc, want, err)
		}
	}
}

func TestAdminTokensAreFoundUntilTheyExpire(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	p := Policy{Admins: []Admin{
		{Name: "alice", Role: RoleOperator, Token: HashAdminToken("one")},
		{Name: "bob", Role: RoleAuditor, Token: HashAdminToken("two"), Expires: now},
	}}
	for token, want := range map[string]string{"one": "alice", "two": "", "": "", "One": "", HashAdminToken("one"): ""} {
		got, ok := p.AdminOf(token, now)
		if got.Name != want || ok != (want != "") {
			t.Errorf("token %q is %q's, want %q", token, got.Name, want)
		}
	}
	if a, ok := p.AdminOf("two", now.Add(-time.Second)); !ok || a.Name != "bob" {
		t.Error("a token is good until it expires")
	}
	if strings.Contains(fmt.Sprint(p), "one ") {
		t.Error("the policy holds a token")
	}
}
