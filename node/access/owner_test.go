package access

import (
	"net/http"
	"strings"
	"testing"

	"github.com/ternmesh/tern/node/access/token"
)

const (
	ak = DefaultAppKeysHeader
	tn = DefaultTenantsHeader
)

func ownerApp(tenants ...string) App {
	return App{App: token.App{ID: "demo"}, Key: "KA", Tenants: tenants}
}

// The list of the facts, in its order, and then what it leaves to us.
func TestOwnerHeaders(t *testing.T) {
	both, none := ownerApp("t1", "t2"), ownerApp()
	long := strings.Repeat("x", maxOwnerLine)
	for _, tc := range []struct {
		app     App
		headers []string // pairs; a name may come again: another line
		want    string
	}{
		{both, nil, ""},
		{both, []string{ak, "KA"}, ""},
		{both, []string{ak, "KB"}, "owner_app_key"},
		{both, []string{ak, "KB,KA"}, ""},
		{both, []string{ak, ""}, "owner_app_key"},
		{both, []string{ak, "ka"}, "owner_app_key"},
		{both, []string{tn, "KA:t1"}, ""},
		{both, []string{tn, "KA:T1"}, "owner_tenant"},
		{both, []string{tn, "KA:t9"}, "owner_tenant"},
		{both, []string{tn, "KB:t9"}, ""},
		{both, []string{tn, "KB:t9;KA:T2"}, "owner_tenant"},
		{both, []string{tn, "KB:t9;KA:t2"}, ""},
		{both, []string{ak, "KB", tn, "KA:t1"}, "owner_app_key"},
		{none, []string{tn, "KA:t1"}, "owner_tenant"},
		{none, []string{tn, "KB:x1"}, ""},
		{both, []string{tn, "KA;t1"}, "owner_malformed"},
		{both, []string{ak, "KB", ak, "KA"}, "owner_app_key"}, // a proxy that appends widens nothing

		{both, []string{ak, " KB , KA "}, ""},
		{both, []string{ak, "KA,"}, "owner_malformed"},
		{both, []string{ak, "KA,,KB"}, "owner_malformed"},
		{both, []string{ak, "KA,K\x01"}, "owner_malformed"},
		{both, []string{ak, "KA,Kä"}, "owner_malformed"},
		{both, []string{ak, "KA,K:B"}, "owner_malformed"},
		{both, []string{ak, "KA,KA"}, ""},
		{both, []string{ak, strings.Repeat("K,", 64) + "KA"}, "owner_malformed"},
		{both, []string{ak, long + "x"}, "owner_malformed"},
		{both, []string{tn, ""}, "owner_malformed"},
		{both, []string{tn, "KA:"}, "owner_malformed"},
		{both, []string{tn, ":t1"}, "owner_malformed"},
		{both, []string{tn, "KA:t1;"}, "owner_malformed"},
		{both, []string{tn, "KA:t1,aaaa"}, "owner_malformed"},
		{both, []string{tn, "KA:x"}, "owner_malformed"},
		{both, []string{tn, "KA: t9 , t2 ; KB:xx"}, ""},
		{both, []string{tn, "KA:t9;KA:t1"}, ""}, // entries of one key are united
		{both, []string{tn, "KA:t1", tn, "KA:t9"}, "owner_tenant"},
		{both, []string{tn, "KA:t1", tn, "KB:t9"}, ""},
		{both, []string{ak, "KA", tn, "KA:t9"}, "owner_tenant"},
		{none, []string{ak, "KA"}, ""},
		{App{App: token.App{ID: "demo"}}, []string{ak, "demo"}, ""}, // without a key of its own: the app's id
	} {
		h := http.Header{}
		for i := 0; i < len(tc.headers); i += 2 {
			h.Add(tc.headers[i], tc.headers[i+1])
		}
		a := &Access{cfg: Config{AppKeysHeader: ak, TenantsHeader: tn}}
		if got := a.ownerOf(h).refusal(tc.app); got != tc.want {
			t.Errorf("tenants %v, headers %q: %q, want %q", tc.app.Tenants, tc.headers, got, tc.want)
		}
	}
}

// The whole table: every kind of one header against every kind of the other.
func TestOwnerTruthTable(t *testing.T) {
	s, empty := ownerApp("t1"), ownerApp()
	rows := []struct {
		name, line string
		refuses    bool
	}{{"absent", "-", false}, {"listed", "KB,KA", false}, {"not listed", "KB", true}, {"empty", "", true}, {"malformed", "KA,,", true}}
	columns := []struct {
		name, line string
		app        App
		refuses    bool
	}{
		{"absent", "-", s, false}, {"no entry", "KB:t9", s, false}, {"a common tenant", "KA:t9,t1", s, false},
		{"no common tenant", "KA:t9", s, true}, {"session without tenants", "KA:t1", empty, true}, {"malformed", "KA", s, true},
	}
	for _, r := range rows {
		for _, c := range columns {
			var o ownerLines
			if r.line != "-" {
				o.keys = []string{r.line}
			}
			if c.line != "-" {
				o.tenants = []string{c.line}
			}
			if got := o.refusal(c.app) != ""; got != (r.refuses || c.refuses) {
				t.Errorf("app keys %s, tenants %s: refused %v", r.name, c.name, got)
			}
		}
	}
}

func FuzzOwnerHeaders(f *testing.F) {
	for _, s := range []string{"", "KA", "KB,KA", "KA:t1", "KA:t1,t2;KB:t3", "KA;t1", ",", ":", ";"} {
		f.Add(s, "KA", "t1")
	}
	f.Fuzz(func(t *testing.T, line, key, tenant string) {
		if listed, ok := appKeyListed(line, key); listed && (!ok || !strings.Contains(line, key)) {
			t.Fatalf("%q lists %q", line, key)
		}
		if allowed, ok := tenantAllowed(line, key, []string{tenant}); allowed && ok && strings.HasPrefix(line, key+":") && validOwnerKey(key) && !strings.Contains(line, tenant) {
			t.Fatalf("%q allows %q of %q", line, tenant, key)
		}
	})
}
