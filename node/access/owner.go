package access

import (
	"net/http"
	"strings"
)

// Network owners (a company, a school) may say on their HTTPS proxy which apps and
// tenants their people may use, by two headers that the proxy sets:
//
//	X-Amzn-Chime-App-Keys: K1,K2          apps
//	X-Amzn-Chime-Tenants: K1:t1,t2;K2:t3  tenants, by app
//
// Both must allow. An absent header allows everything, since the control is the
// network's and not the app's. Every line is judged by itself and all must allow: if a
// client sends a line of its own and the proxy adds one, their union would let the
// client widen what its network allows. Malformed is refused.

// Default names of the headers.
const (
	DefaultAppKeysHeader = "X-Amzn-Chime-App-Keys"
	DefaultTenantsHeader = "X-Amzn-Chime-Tenants"
)

// Limits of each header line; beyond them it is malformed.
const (
	maxOwnerLine    = 8 << 10
	maxOwnerLines   = 8
	maxOwnerKeys    = 64
	maxOwnerTenants = 256
	maxOwnerKey     = 128
)

// ownerLines are the headers of one request, kept with the session: a policy that gives
// the app other tenants is held against them again.
type ownerLines struct{ keys, tenants []string }

// ownerOf takes the headers off a request; those of nearly every request are absent.
func (a *Access) ownerOf(h http.Header) ownerLines {
	return ownerLines{keys: h.Values(a.cfg.AppKeysHeader), tenants: h.Values(a.cfg.TenantsHeader)}
}

// owner refuses what the network's owner does not allow; "" is no objection.
func (o ownerLines) refusal(app App) (reason string) {
	key := app.Key
	if key == "" {
		key = app.ID
	}
	if len(o.keys) > maxOwnerLines || len(o.tenants) > maxOwnerLines {
		return "owner_malformed"
	}
	for _, line := range o.keys {
		if listed, ok := appKeyListed(line, key); !ok {
			return "owner_malformed"
		} else if !listed {
			return "owner_app_key"
		}
	}
	for _, line := range o.tenants {
		if allowed, ok := tenantAllowed(line, key, app.Tenants); !ok {
			return "owner_malformed"
		} else if !allowed {
			return "owner_tenant"
		}
	}
	return ""
}

// appKeyListed reads one line of app keys. The empty line lists nothing; it is not
// malformed. Keys are compared byte by byte.
func appKeyListed(line, key string) (listed, ok bool) {
	if len(line) > maxOwnerLine {
		return false, false
	}
	if strings.TrimSpace(line) == "" {
		return false, true
	}
	n := 0
	for k := range strings.SplitSeq(line, ",") {
		k = strings.Trim(k, " \t")
		if n++; n > maxOwnerKeys || !validOwnerKey(k) {
			return false, false
		}
		listed = listed || k == key
	}
	return listed, true
}

// tenantAllowed reads one line of tenants: allowed if it has no entry for the key, or one
// with a tenant of the session. Entries of one key are united. An app with an entry
// but a session without tenants is refused.
func tenantAllowed(line, key string, of []string) (allowed, ok bool) {
	if len(line) > maxOwnerLine {
		return false, false
	}
	entries, tenants, named := 0, 0, false
	for entry := range strings.SplitSeq(line, ";") {
		k, list, found := strings.Cut(entry, ":")
		k = strings.Trim(k, " \t")
		if entries++; !found || entries > maxOwnerKeys || !validOwnerKey(k) {
			return false, false
		}
		named = named || k == key
		for t := range strings.SplitSeq(list, ",") {
			t = strings.Trim(t, " \t")
			if tenants++; tenants > maxOwnerTenants || !validTenant(t) {
				return false, false
			}
			for _, own := range of {
				allowed = allowed || (k == key && t == own)
			}
		}
	}
	return allowed || !named, true
}

// validOwnerKey: 1 to 128 visible ASCII characters without the separators.
func validOwnerKey(k string) bool {
	return k != "" && len(k) <= maxOwnerKey &&
		!strings.ContainsFunc(k, func(r rune) bool { return r <= ' ' || r > '~' || r == ',' || r == ';' || r == ':' })
}

// validTenant is the grammar of the Amazon Chime SDK's TenantId: 2 to 256 characters of
// A-Z a-z 0-9 - _ ! @ # $, none four times in a row.
func validTenant(t string) bool {
	const set = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_!@#$"
	if len(t) < 2 || len(t) > 256 || strings.Trim(t, set) != "" {
		return false
	}
	for i := 3; i < len(t); i++ {
		if t[i] == t[i-1] && t[i] == t[i-2] && t[i] == t[i-3] {
			return false
		}
	}
	return true
}
