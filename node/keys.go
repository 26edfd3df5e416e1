package node

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// key is what documents say about one key of the configuration. Fallback is the default as a reader writes it; Reloads
// says whether SIGHUP and tern reload put a change into force.
type key struct {
	fallback, says string
	reloads        bool
	choices        []string
}

// keys has one line for every key of Config; a test holds it against the struct, docs/config.md and
// docs/config.schema.json are made from it.
var keys = map[string]key{
	"node":                          {fallback: "needed", says: "this node's name, as in its certificate"},
	"data_dir":                      {fallback: "needed", says: "policy, raft log, relay secret; made if absent, mode 0700"},
	"identity.ca":                   {fallback: "needed", says: "the mesh's CA certificate (PEM)"},
	"identity.cert":                 {fallback: "needed without `authorities`", says: "this node's certificate (PEM); with `authorities` it comes with the lease, and this is left out. The file is watched", reloads: true},
	"identity.key":                  {fallback: "needed", says: "its key (PEM); `tern enrol` makes it. The file is watched, without `authorities`", reloads: true},
	"identity.lease":                {fallback: "`lease.json` in `data_dir`", says: "the lease file, with `authorities`"},
	"identity.machine_file":         {fallback: "empty: `/etc/machine-id` and the first network card", says: "a file whose content tells this machine from others, for containers"},
	"authorities":                   {fallback: "empty", says: "`HOST:PORT` of lease authorities, asked in this order (docs/enrolment.md); empty: a certificate of `tern ca issue` suffices and there is no lease"},
	"mesh.listen":                   {fallback: "`0.0.0.0:7900`", says: "UDP: gossip, path frames and QUIC between nodes"},
	"mesh.advertise":                {fallback: "`mesh.listen`", says: "the address that other nodes use; needed if `mesh.listen` is every address"},
	"mesh.join":                     {fallback: "empty", says: "`HOST:PORT` of any other nodes; names are resolved at each try"},
	"mesh.risks":                    {fallback: "empty", says: "what this node shares with others (site, provider): paths avoid sharing it", reloads: true},
	"mesh.relay_mbps":               {fallback: "`0`", says: "traffic relayed for others, Mbit/s, at which this node counts as full: as it fills up, paths of others choose other relays. 0: only clients and the processor make it full"},
	"mesh.probe_kbps":               {fallback: "`256`", says: "cap on this node's probes of links, kbit/s on the wire, whatever the size of the mesh; it also bounds how many neighbours are probed"},
	"control.voter":                 {fallback: "`false`", says: "take part in raft; the certificate must allow it (`tern ca issue --voter`)"},
	"control.expect":                {fallback: "`1`; needed for a voter with `mesh.join`", says: "how many voters found the mesh, the first time: 1, 3 or 5, the same at all of them"},
	"control.key_file":              {fallback: "`node.key` in `data_dir`", says: "this node's own key, made if absent; certificates in the policy are sealed to it. Kept elsewhere, a copy of `data_dir` alone opens nothing. To rotate, put a new line above the old one and restart"},
	"access.listen":                 {fallback: "`127.0.0.1:8080`", says: "HTTP(S): WHIP, WHEP, RTP ingest"},
	"access.tls.cert":               {fallback: "empty", says: "certificate chain (PEM); without it `access.listen` must be loopback. The file is watched", reloads: true},
	"access.tls.key":                {fallback: "empty", says: "its key (PEM). The file is watched", reloads: true},
	"access.plain_http":             {fallback: "`false`", says: "insist on HTTP beyond loopback, behind a proxy that ends TLS"},
	"access.url":                    {fallback: "scheme and `access.listen`", says: "the base URL that clients see"},
	"access.udp":                    {fallback: "`127.0.0.1:8081`", says: "the one UDP port of all WebRTC clients"},
	"access.udp_advertise":          {fallback: "`access.udp`", says: "the addresses in ICE candidates"},
	"access.tcp":                    {fallback: "empty", says: "TCP address of ICE for clients whose network lets no UDP through, such as `0.0.0.0:8443`; offered at the addresses of `access.udp_advertise`, with the same port (behind an address translator, map it one to one)"},
	"access.ice_lite":               {fallback: "`false`", says: "answer connectivity checks and make none: for nodes that clients reach at `access.udp_advertise` as it is"},
	"access.rtp_host":               {fallback: "`127.0.0.1`", says: "the address of plain RTP, in and out"},
	"access.rtp_ports":              {fallback: "`20000-20199`", says: "its ports, taken in pairs: an even one for a track's RTP, the next for its RTCP"},
	"access.max_sessions":           {fallback: "`2000`", says: "clients' sessions at once, then 503"},
	"access.join_rate":              {fallback: "`50`", says: "joins per second of one source address (an IPv6 /64), then 429"},
	"access.patch_rate":             {fallback: "`200`", says: "candidates, restarts and renewals per second of one source address; four seconds' worth at once"},
	"access.join_burst":             {fallback: "`200`", says: "joins at once of one source address"},
	"access.connections_per_source": {fallback: "`512`", says: "TCP connections open at once from one source address (an IPv6 /64) at `access.listen`, and at `access.tcp`; more are closed at once and counted. Loopback and `access.trusted_proxies` are exempt"},
	"access.rtp_per_app":            {fallback: "`32`", says: "plain RTP sessions at once of one app; each takes a pair of ports per track"},
	"access.rtp_per_source":         {fallback: "`8`", says: "plain RTP sessions at once of one source address"},
	"access.trusted_proxies":        {fallback: "empty", says: "addresses or prefixes of reverse proxies whose `X-Forwarded-For` names the client"},
	"access.app_keys_header":        {fallback: "`X-Amzn-Chime-App-Keys`", says: "header by which a network's owner lists the apps it allows"},
	"access.tenants_header":         {fallback: "`X-Amzn-Chime-Tenants`", says: "header by which it lists their tenants"},
	"admin.listen":                  {fallback: "`127.0.0.1:7902`", says: "API, console, metrics, pprof, for callers with a token or an admin certificate; health for everybody. HTTPS beyond loopback (docs/admin.md)"},
	"admin.socket":                  {fallback: "`DATA_DIR/admin.sock`", says: "Unix socket at which the node's own user and root are operators; `off`: none"},
	"admin.tls.cert":                {fallback: "the node's certificate, beyond loopback", says: "certificate chain (PEM) of HTTPS at `admin.listen`. The file is watched", reloads: true},
	"admin.tls.key":                 {fallback: "the node's key", says: "its key (PEM). The file is watched", reloads: true},
	"admin.anonymous":               {fallback: "`none`", says: "what callers at `admin.listen` without any proof may do: `none`, or `read` on loopback: what auditors may", choices: []string{"none", "read"}},
	"filter.mode":                   {fallback: "`auto`", says: "`auto`: XDP where it can attach, else the Go twin; `xdp`; `go`", choices: []string{"auto", "xdp", "go"}},
	"filter.interfaces":             {fallback: "empty", says: "where XDP attaches; `[auto]`: interfaces with a default route; empty: the Go twin filters"},
	"filter.share_quarantine":       {fallback: "`false`", says: "tell the other nodes of sources in quarantine, and believe them"},
	"filter.relay":                  {fallback: "`user`", says: "who sends path frames on for other nodes: `user`, or `kernel`: the XDP program, where it can (docs/adr/0017-relay-in-the-kernel.md)", choices: []string{"user", RelayKernel}},
	"carrier":                       {fallback: "`frames`", says: "how media crosses the mesh: `frames` or `datagram` (see docs/adr/0002-media-frames.md)", choices: []string{"frames", "datagram"}},
	"log.level":                     {fallback: "`info`", says: "`debug`, `info`, `warn`, `error`", reloads: true, choices: []string{"debug", "info", "warn", "error"}},
	"log.format":                    {fallback: "`text`", says: "`text` or `json`", choices: []string{"text", "json"}},
	"tracing.endpoint":              {fallback: "empty: no traces", says: "base URL of an OTLP/HTTP collector that takes traces of joins, policy changes and path changes, such as `http://127.0.0.1:4318` (docs/traces.md)"},
	"tracing.sample":                {fallback: "`1`", says: "share of the traces that begin at this node which are recorded, above 0 and up to 1"},

	"identity.clock_tolerance_seconds": {fallback: "`30`", says: "how far the clock may go back without making the lease void; at most 120"},
}

// leaf is one key of the configuration with its value in some Config.
type leaf struct {
	key   string
	value reflect.Value
}

// leaves lists the keys of a configuration in the order of its structs, as documents write them (mesh.listen).
func leaves(v reflect.Value, prefix string) (out []leaf) {
	for i := range v.NumField() {
		tag, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
		if v.Field(i).Kind() == reflect.Struct {
			out = append(out, leaves(v.Field(i), prefix+tag+".")...)
			continue
		}
		out = append(out, leaf{prefix + tag, v.Field(i)})
	}
	return out
}

// ConfigTable is the table of docs/config.md: every key with its default, its meaning and whether it reloads. Pure.
func ConfigTable() string {
	var b strings.Builder
	b.WriteString("| key | default | reloads | meaning |\n|---|---|---|---|\n")
	for _, l := range leaves(reflect.ValueOf(&Config{}).Elem(), "") {
		k := keys[l.key]
		reloads := ""
		if k.reloads {
			reloads = "yes"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", l.key, k.fallback, reloads, k.says)
	}
	return b.String()
}

// ConfigSchema is the JSON Schema (draft 2020-12) of the configuration file, for editors; LoadConfig checks more. Pure.
func ConfigSchema() []byte {
	root := schemaOf(reflect.TypeFor[Config](), "")
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "Tern node configuration"
	root["required"] = []string{"node", "data_dir", "identity"}
	b, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("the schema is made of maps, texts and lists: %v", err))
	}
	return append(b, '\n')
}

func schemaOf(t reflect.Type, path string) map[string]any {
	k := keys[path]
	out := make(map[string]any)
	if k.says != "" {
		text := k.says + ". Default: " + k.fallback
		if k.reloads {
			text += ". Reloads"
		}
		out["description"] = strings.ReplaceAll(text, "`", "")
	}
	switch t.Kind() {
	case reflect.Struct:
		properties := make(map[string]any)
		for i := range t.NumField() {
			tag, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
			properties[tag] = schemaOf(t.Field(i).Type, strings.TrimPrefix(path+"."+tag, "."))
		}
		out["type"], out["properties"], out["additionalProperties"] = "object", properties, false
	case reflect.Slice:
		out["type"], out["items"] = "array", schemaOf(t.Elem(), path+"[]")
	case reflect.Bool:
		out["type"] = "boolean"
	case reflect.Int:
		out["type"] = "integer"
	case reflect.Float64:
		out["type"] = "number"
	default:
		out["type"] = "string"
	}
	if k.choices != nil {
		out["enum"] = k.choices
	}
	return out
}
