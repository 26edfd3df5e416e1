package control

import (
	"reflect"
	"strings"
	"testing"
)

func TestAdmissionIsReadWholeAndKeptThroughTheStoredForm(t *testing.T) {
	p := mustParse(t, `
regions: [{id: eu}]
apps:
  - id: a
    certificates: [`+secretA+`]
    admission:
      disabled: true
      banned: [mallory, "7"]
      legacy_006: true
      issuers: [APIone]
      key_set: https://keys.example.com/jwks.json
      app_key: KA
      tenants: [t1, Acme_2]
`)
	want := Admission{Disabled: true, Banned: []string{"mallory", "7"}, Legacy006: true, Issuers: []string{"APIone"},
		KeySet: "https://keys.example.com/jwks.json", AppKey: "KA", Tenants: []string{"t1", "Acme_2"}}
	if got := p.Apps[0].Admission; !reflect.DeepEqual(got, want) {
		t.Fatalf("read %+v, want %+v", got, want)
	}
	doc, err := encodeDocument(p)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := decodeDocument(doc, 0); err != nil || !reflect.DeepEqual(back.Apps[0].Admission, want) {
		t.Errorf("stored form gives %+v (%v)", back.Apps, err)
	}
	plain := mustParse(t, "regions: [{id: eu}]\napps: [{id: a, certificates: ["+secretA+"]}]")
	if doc, _ := encodeDocument(plain); strings.Contains(string(doc), "admission") {
		t.Errorf("an app without rules stores some, which an older node would refuse: %s", doc)
	}
}

func TestAKeySetMayStandInForCertificates(t *testing.T) {
	mustParse(t, "regions: [{id: eu}]\napps: [{id: a, admission: {key_set: 'file:///etc/tern/a.jwks'}}]")
}

func TestAdmissionNamesEveryFault(t *testing.T) {
	for rule, want := range map[string]string{
		"{disabled: maybe}":  "admission.disabled: must be true or false",
		"{disabled: 'true'}": "must be true or false",
		"{bannd: [a]}":       `unknown key "bannd" (did you mean "banned"?)`,
		"{banned: [a, a]}":   `admission.banned[1]: "a" is given twice`,
		"{banned: ['']}":     "is empty",
		"{issuers: ['" + strings.Repeat("x", 129) + "']}": "129 bytes long",
		"{tenants: [x]}":                             "is 1 bytes long",
		"{tenants: [aaaa]}":                          "four times in a row",
		"{tenants: ['a:b']}":                         "other than A-Z",
		"{tenants: [t1, t2, t3, t4, t5, t6]}":        "at most 5",
		"{app_key: 'a,b'}":                           "one of , ; :",
		"{key_set: 'http://keys.example.com/'}":      "must be https",
		"{key_set: 'http://127.0.0.1.example.com/'}": "must be https",
		"{key_set: 'file://host/x'}":                 "must be https://HOST",
		"{key_set: 'https://u:p@keys.example.com/'}": "give its bare URL",
		"{room_tokens: true, legacy_006: true}":      "excludes legacy_006",
	} {
		_, err := Parse([]byte("regions: [{id: eu}]\napps: [{id: a, certificates: [" + secretA + "], admission: " + rule + "}]"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", rule, err, want)
		}
	}
	mustParse(t, "regions: [{id: eu}]\napps: [{id: a, certificates: ["+secretA+"], admission: {key_set: 'http://127.0.0.1:9/k', tenants: [aaabaaa]}}]")
}
