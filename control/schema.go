package control

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"time"

	"github.com/ternmesh/tern/routing"
)

// rule is what the schema says about one path of a document beyond its shape: words for people and JSON Schema
// keywords. Lists are written as "apps[]", maps as "filter.rates{}".
type rule struct {
	says string
	with map[string]any
}

func between(low, high int) map[string]any { return map[string]any{"minimum": low, "maximum": high} }

func oneOf(words ...string) map[string]any { return map[string]any{"enum": words} }

var idRule = map[string]any{"pattern": "^[A-Za-z0-9_-]{1,64}$"}

// rules has one line for every path of a document; a test holds it against Policy.
var rules = map[string]rule{
	"regions":              {"regions that may carry media at all", map[string]any{"maxItems": MaxRegions}},
	"regions[].id":         {"the region's name, as in the nodes' certificates", idRule},
	"apps":                 {"the tenants", map[string]any{"maxItems": MaxApps}},
	"apps[].id":            {"the app's id; \"s\" is reserved", idRule},
	"apps[].name":          {"for people", map[string]any{"maxLength": MaxNameLength}},
	"apps[].certificates":  {"secrets: one, or two while one replaces the other; a fingerprint as policy get shows it keeps the secret", map[string]any{"maxItems": MaxCertificates}},
	"apps[].auth":          {"how a client proves that it may enter", map[string]any{"enum": []string{AuthToken, AuthAppID}, "default": AuthToken}},
	"apps[].fence":         {"regions that the app's media may touch, relays included; empty: all regions above", map[string]any{"maxItems": MaxRegions, "uniqueItems": true}},
	"apps[].redundancy":    {"how many copies of its packets cross the mesh", map[string]any{"enum": []string{RedundancyFull, RedundancyAdaptive, RedundancyOff}, "default": RedundancyFull}},
	"apps[].residual_ppm":  {"with redundancy adaptive: media frames in a million that may be left undelivered before repair; 0: 100", between(0, MaxResidualPPM)},
	"apps[].limits":        {"what the app may use at each node; 0 is no limit", nil},
	"blocklist":            {"sources that no node listens to: addresses and CIDR prefixes, none inside another", map[string]any{"maxItems": MaxBlocklist}},
	"voters":               {"which nodes agree on the policy; left out: all that may vote", nil},
	"voters.count":         {"how many", map[string]any{"enum": []int{0, 1, 3, 5}}},
	"voters.spread":        {"region: in as many regions as possible", oneOf(SpreadRegion, SpreadNone)},
	"voters.grace_seconds": {"how long a voter may be dead before another takes its place; 0: 300", between(0, maxGrace)},
	"filter":               {"the packet filter of every node", nil},
	"filter.rates":         {"rates by name; what is left out keeps the filter's default", map[string]any{"propertyNames": map[string]any{"enum": FilterRateNames}}},
	"alarms":               {"thresholds; 0 is no alarm", nil},
	"audit":                {"the audit log", nil},

	"apps[].limits.channels":   {"channels with a session at a node", between(0, maxLimit)},
	"apps[].limits.publishers": {"sessions that publish at a node", between(0, maxLimit)},
	"apps[].limits.viewers":    {"sessions that watch at a node", between(0, maxLimit)},

	"apps[].limits.publisher_kbps": {"bit rate of one publisher, all its tracks and layers together, in kbit/s", between(0, maxLimit)},

	"apps[].admission":             {"more about who may enter", nil},
	"apps[].admission.disabled":    {"nobody enters, and who is inside leaves", nil},
	"apps[].admission.banned":      {"users who may not enter, whatever their token says", map[string]any{"maxItems": MaxBanned}},
	"apps[].admission.legacy_006":  {"accept 006 tokens, which bind channel and user badly", nil},
	"apps[].admission.room_tokens": {"accept only short JWTs bound to one session, each once", nil},
	"apps[].admission.issuers":     {"API keys by which tokens name this app, besides its id", map[string]any{"maxItems": MaxIssuers}},
	"apps[].admission.key_set":     {"JWKS with public keys: https://... or file:///...", map[string]any{"maxLength": MaxURLBytes}},
	"apps[].admission.app_key":     {"what network owners list to let this app through; empty: the app's id", map[string]any{"maxLength": maxAppKey}},
	"apps[].admission.tenants":     {"tenants that the app's sessions belong to, for network owners", map[string]any{"maxItems": MaxTenants}},

	"nodes":            {"what the operator wants of nodes, by name; left out: as before", map[string]any{"maxProperties": MaxNodes}},
	"nodes{}.state":    {"drained: emptied; cordoned: no new sessions", oneOf(NodeDrained, NodeCordoned)},
	"nodes{}.deadline": {"with drained: when the sessions that are left end", nil},
	"revoked":          {"nodes and certificates that the mesh refuses; left out: as before", map[string]any{"maxItems": MaxRevoked}},
	"revoked[].node":   {"every certificate of that name", nil},
	"revoked[].serial": {"one certificate, its serial number in lower-case hex", map[string]any{"pattern": "^[1-9a-f][0-9a-f]{0,39}$"}},
	"revoked[].reason": {"for people", map[string]any{"maxLength": MaxReasonLength}},
	"admins":           {"tokens of the admin API; left out: as before", map[string]any{"maxItems": MaxAdmins}},
	"admins[].name":    {"who; goes into history and audit log", map[string]any{"pattern": adminName.String()}},
	"admins[].role":    {"what the holder may do", oneOf(RoleOperator, RoleAuditor, RoleMetrics, RoleApp)},
	"admins[].apps":    {"with role app: whose", nil},
	"admins[].token":   {"SHA-256 of the token", map[string]any{"pattern": adminToken.String()}},
	"admins[].expires": {"when it ends", nil},

	"clients":           {"where users are, by their addresses, for /v1/nearest; the longest prefix counts", map[string]any{"maxItems": MaxRegions}},
	"clients[].region":  {"a region of the policy", nil},
	"clients[].from":    {"addresses and prefixes", map[string]any{"maxItems": MaxClientPrefixes}},
	"routes":            {"the operator's bounds on routes; all that fit add up", map[string]any{"maxItems": MaxBounds}},
	"routes[].from":     {"where links start: a node's name or region:ID; left out: anywhere", nil},
	"routes[].to":       {"where links end, likewise", nil},
	"routes[].relay":    {"instead of from and to: nodes as relays, likewise", nil},
	"routes[].use":      {"prefer: counts 10 ms less; avoid: a last resort; forbid: never", oneOf(routing.UsePrefer, routing.UseAvoid, routing.UseForbid)},
	"routes[].price_ms": {"milliseconds of delay that the use must save", between(0, int(routing.MaxPrice/time.Millisecond))},

	"filter.rates{}.per_second":    {"packets a second", between(1, maxRatePerSecond)},
	"filter.rates{}.burst":         {"packets at once after a pause", between(1, maxRatePerSecond)},
	"alarms.loss_percent":          {"of a link", between(0, 100)},
	"alarms.link_delay_ms":         {"one-way, of a link", between(0, maxDelayMS)},
	"alarms.undelivered_per_mille": {"media frames that no path brought", between(0, 1000)},
	"audit.retention_days":         {"how long entries are kept; 0: 90", between(0, maxRetentionDays)},
}

// Schema is the JSON Schema (draft 2020-12) of the policy document, made from the types that Parse fills. Parse checks
// more: references between parts, overlapping prefixes, secrets. Pure; the same bytes every time.
func Schema() []byte {
	root := schemaOf(reflect.TypeFor[Policy](), "")
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "Tern policy document"
	b, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("the schema is made of maps, texts and numbers: %v", err))
	}
	return append(b, '\n')
}

func schemaOf(t reflect.Type, path string) map[string]any {
	out := make(map[string]any)
	r := rules[path]
	if r.says != "" {
		out["description"] = r.says
	}
	switch {
	case t == reflect.TypeFor[netip.Prefix]():
		out["type"] = "string"
	case t == reflect.TypeFor[time.Time]():
		out["type"], out["format"] = "string", "date-time"
	case t.Kind() == reflect.Struct:
		properties := make(map[string]any)
		var required []string
		for _, f := range fieldsOf(t) {
			where := strings.TrimPrefix(path+"."+f.key, ".")
			properties[f.key] = schemaOf(f.of, where)
			if path != "" && f.needed && rules[where].with["default"] == nil {
				required = append(required, f.key)
			}
		}
		out["type"], out["properties"], out["additionalProperties"] = "object", properties, false
		if required != nil {
			out["required"] = required
		}
	case t.Kind() == reflect.Slice:
		out["type"], out["items"] = "array", schemaOf(t.Elem(), path+"[]")
	case t.Kind() == reflect.Map:
		out["type"], out["additionalProperties"] = "object", schemaOf(t.Elem(), path+"{}")
	case t.Kind() == reflect.Float64:
		out["type"] = "number"
	case t.Kind() == reflect.Bool:
		out["type"] = "boolean"
	case t.Kind() == reflect.String: // an id of digits needs no quotes
		out["type"] = []string{"string", "number"}
		if r.with["enum"] != nil {
			out["type"] = "string"
		}
	default:
		out["type"] = "integer"
	}
	for keyword, value := range r.with {
		out[keyword] = value
	}
	return out
}

// field is one key of a document.
type field struct {
	key    string
	of     reflect.Type
	needed bool // always stored
}

// fieldsOf lists the keys of a struct in a document.
func fieldsOf(t reflect.Type) (out []field) {
	for i := range t.NumField() {
		f := t.Field(i)
		if key, options, _ := strings.Cut(f.Tag.Get("json"), ","); key != "-" && key != "" {
			out = append(out, field{key, f.Type, !strings.Contains(options, "omit")})
		}
	}
	return out
}
