package control

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// MaxAdmins bounds the tokens of the admin API in a policy.
const MaxAdmins = 1000

// What a holder of an admin token, or of an admin certificate, may do.
const (
	RoleOperator = "operator" // everything
	RoleAuditor  = "auditor"  // reads everything, changes nothing
	RoleMetrics  = "metrics"  // reads the metrics alone
	RoleApp      = "app"      // reads what concerns its own apps, and changes them; see OwnerChange
)

// Admin is one bearer token of the admin API. The policy holds the token's SHA-256, from which the token, 256 random
// bits, cannot be found; so a policy may be shown to any operator.
type Admin struct {
	Name    string    `json:"name"` // who: goes into the history; 1-64 of a-z, 0-9, and . _ @ -
	Role    string    `json:"role"`
	Apps    []string  `json:"apps,omitempty"` // with RoleApp, at least one
	Token   string    `json:"token"`          // HashAdminToken of the token
	Expires time.Time `json:"expires,omitzero"`
}

// HashAdminToken is what the policy keeps of a token: "sha256:" and 64 hex digits.
func HashAdminToken(token string) string {
	sum := sha256.Sum256([]byte(token))
	return fingerprintPrefix + hex.EncodeToString(sum[:])
}

// AdminOf finds whose token it is, in a time that does not depend on how near it comes to one; false if it is
// nobody's or has expired.
func (p Policy) AdminOf(token string, now time.Time) (found Admin, ok bool) {
	hash := []byte(HashAdminToken(token))
	for _, a := range p.Admins {
		if subtle.ConstantTimeCompare(hash, []byte(a.Token)) == 1 && (a.Expires.IsZero() || now.Before(a.Expires)) {
			found, ok = a, true
		}
	}
	return found, ok
}

var (
	adminName  = regexp.MustCompile(`^[a-z0-9][a-z0-9._@-]{0,63}$`)
	adminToken = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
)

func (v *validator) admins(list []Admin) {
	v.count("admins", len(list), MaxAdmins)
	names, tokens := make(map[string]int), make(map[string]int)
	for i, a := range list {
		path := fmt.Sprintf("admins[%d]", i)
		if !adminName.MatchString(a.Name) {
			v.add(path+".name", "%.80q must be 1 to 64 of a-z, 0-9 and . _ @ -", a.Name)
		} else if first, twice := names[a.Name]; twice {
			v.add(path+".name", "%q is already the name of admins[%d]", a.Name, first)
		}
		names[a.Name] = i
		v.mode(path+".role", a.Role, RoleOperator, RoleAuditor, RoleMetrics, RoleApp)
		v.adminApps(path+".apps", a)
		if !adminToken.MatchString(a.Token) {
			v.add(path+".token", "must be sha256: and the 64 hex digits of the token's SHA-256, never the token itself: tern admin token create makes both")
		} else if first, twice := tokens[a.Token]; twice {
			v.add(path+".token", "is already that of admins[%d]", first)
		}
		tokens[a.Token] = i
	}
}

func (v *validator) adminApps(path string, a Admin) {
	switch {
	case a.Role == RoleApp && len(a.Apps) == 0:
		v.add(path, "is empty, but the role is %q: name the apps", RoleApp)
	case a.Role != RoleApp && len(a.Apps) > 0:
		v.add(path, "goes with role %q alone", RoleApp)
	}
	v.count(path, len(a.Apps), MaxApps)
	for i, id := range a.Apps {
		if reason := badID(id); reason != "" {
			v.add(fmt.Sprintf("%s[%d]", path, i), "%s", reason)
		}
	}
}

func (r *reader) admins(to *[]Admin) func(string, ast.Node) {
	return func(path string, n ast.Node) {
		*to = []Admin{}
		r.list(path, n, MaxAdmins, func(path string, n ast.Node) {
			var a Admin
			r.fields(path, n, map[string]func(string, ast.Node){
				"name": r.text(&a.Name), "role": r.text(&a.Role), "apps": r.texts(&a.Apps, MaxApps),
				"token": r.text(&a.Token), "expires": r.instant(&a.Expires),
			})
			a.Token = strings.ToLower(a.Token)
			*to = append(*to, a)
		})
	}
}
