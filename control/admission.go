package control

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// Limits of an app's admission rules.
const (
	MaxIssuers  = 16
	MaxBanned   = 1000
	MaxTenants  = 5
	MaxURLBytes = 512
	maxUser     = 255 // bytes of a user's name, as in the token formats
	maxAppKey   = 128
)

// Admission is what an app's policy says of its clients beyond certificates and the auth mode. The zero value adds
// nothing and allows nothing more.
type Admission struct {
	Disabled   bool     `json:"disabled,omitempty"`    // nobody enters, and who is inside leaves
	Banned     []string `json:"banned,omitempty"`      // users who may not enter, whatever their token says
	Legacy006  bool     `json:"legacy_006,omitempty"`  // accept the old "006" tokens, which bind channel and user badly
	RoomTokens bool     `json:"room_tokens,omitempty"` // accept only short JWTs that are bound to one session, each once
	Issuers    []string `json:"issuers,omitempty"`     // API keys by which LiveKit-style tokens name this app, besides its id
	KeySet     string   `json:"key_set,omitempty"`     // JWKS with public keys: https://..., or file:///... on every node
	AppKey     string   `json:"app_key,omitempty"`     // what network owners list to let this app through; empty: the app's id
	Tenants    []string `json:"tenants,omitempty"`     // tenants that the app's sessions belong to, for network owners
}

// admission reads the mapping.
func (r *reader) admission(to *Admission) func(string, ast.Node) {
	return func(path string, n ast.Node) {
		r.fields(path, n, map[string]func(string, ast.Node){
			"disabled":    r.truth(&to.Disabled),
			"banned":      r.texts(&to.Banned, MaxBanned),
			"legacy_006":  r.truth(&to.Legacy006),
			"room_tokens": r.truth(&to.RoomTokens),
			"issuers":     r.texts(&to.Issuers, MaxIssuers),
			"key_set":     r.text(&to.KeySet),
			"app_key":     r.text(&to.AppKey),
			"tenants":     r.texts(&to.Tenants, MaxTenants),
		})
	}
}

// truth reads true or false, and nothing that merely looks like it.
func (r *reader) truth(to *bool) func(string, ast.Node) {
	return func(path string, n ast.Node) {
		b, isBool := n.(*ast.BoolNode)
		if !isBool {
			r.add(path, n, "must be true or false")
			return
		}
		*to = b.Value
	}
}

// admission checks an app's rules.
func (v *validator) admission(path string, a Admission) {
	v.words(path+".banned", a.Banned, MaxBanned, maxUser)
	v.words(path+".issuers", a.Issuers, MaxIssuers, maxAppKey)
	v.count(path+".tenants", len(a.Tenants), MaxTenants)
	for i, t := range a.Tenants {
		if reason := badTenant(t); reason != "" {
			v.add(fmt.Sprintf("%s.tenants[%d]", path, i), "%s", reason)
		}
	}
	if reason := badAppKey(a.AppKey); a.AppKey != "" && reason != "" {
		v.add(path+".app_key", "%s", reason)
	}
	if reason := badKeySet(a.KeySet); a.KeySet != "" && reason != "" {
		v.add(path+".key_set", "%s", reason)
	}
	if a.RoomTokens && a.Legacy006 {
		v.add(path+".room_tokens", "excludes legacy_006: those tokens are bound to no session")
	}
}

// words checks a list of names: bounded, visible, none twice.
func (v *validator) words(path string, list []string, most, bytes int) {
	v.count(path, len(list), most)
	for i, s := range list {
		where := fmt.Sprintf("%s[%d]", path, i)
		switch {
		case s == "":
			v.add(where, "is empty")
		case len(s) > bytes:
			v.add(where, "is %d bytes long, at most %d are allowed", len(s), bytes)
		case strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }):
			v.add(where, "holds a control character")
		case slices.Contains(list[:i], s):
			v.add(where, "%q is given twice", s)
		}
	}
}

// badTenant says what is wrong with a tenant id, or nothing: 2 to 256 of A-Z a-z 0-9 - _ ! @ # $, and no character
// four times in a row, which is the grammar of the Amazon Chime SDK's TenantId.
func badTenant(s string) string {
	if len(s) < 2 || len(s) > 256 {
		return fmt.Sprintf("is %d bytes long, 2 to 256 are allowed", len(s))
	}
	run := 0
	for i := range len(s) {
		if c := s[i]; !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-_!@#$", c) >= 0) {
			return "holds a character other than A-Z a-z 0-9 - _ ! @ # $"
		}
		if run++; i > 0 && s[i] != s[i-1] {
			run = 1
		}
		if run == 4 {
			return "holds a character four times in a row"
		}
	}
	return ""
}

// badAppKey says what is wrong with an app key, or nothing: 1 to 128 visible ASCII characters without , ; and :.
func badAppKey(s string) string {
	if s == "" || len(s) > maxAppKey {
		return fmt.Sprintf("is %d bytes long, 1 to %d are allowed", len(s), maxAppKey)
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(",;:", r) }) {
		return "holds a space, one of , ; : or a character outside of ASCII"
	}
	return ""
}

// badKeySet accepts https, http to this machine alone (a helper beside the node), and files by their absolute path.
func badKeySet(s string) string {
	u, err := url.Parse(s)
	switch {
	case err != nil || len(s) > MaxURLBytes:
		return fmt.Sprintf("is not a URL of at most %d bytes", MaxURLBytes)
	case u.User != nil || u.Fragment != "":
		return "holds a user or a fragment: a key set is public, give its bare URL"
	case u.Scheme == "file" && u.Host == "" && strings.HasPrefix(u.Path, "/"):
		return ""
	case u.Scheme == "https" && u.Host != "":
		return ""
	case u.Scheme == "http":
		if ip, err := netip.ParseAddr(u.Hostname()); err == nil && ip.IsLoopback() {
			return ""
		}
		return "must be https: keys that anybody on the way can change prove nothing (http is for 127.0.0.1 and ::1)"
	}
	return "must be https://HOST/PATH or file:///PATH"
}
