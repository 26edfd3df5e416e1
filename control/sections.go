package control

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// Bounds of the numbers in a policy. Zero always means "not said": the default, or no limit.
const (
	maxLimit         = 1_000_000           // channels, publishers, viewers
	maxRatePerSecond = 10_000_000          // packets
	maxGrace         = 7 * 24 * 60 * 60    // seconds
	maxRetentionDays = 3650                //
	maxDelayMS       = 60_000              //
	defaultGrace     = 5 * time.Minute     // of a dead voter
	defaultRetention = 90 * 24 * time.Hour // of the audit log
	SpreadRegion     = "region"            // voters in as many regions as possible; the default
	SpreadNone       = "none"              // any voters
	maxPolicyVoters  = 5                   // more make every write slower and no safer
)

// Voters says which nodes agree on the policy. The zero value keeps every node that may vote.
type Voters struct {
	Count        int    `json:"count,omitempty"`         // 1, 3 or 5; 0: all nodes that may vote
	Spread       string `json:"spread,omitempty"`        // SpreadRegion (default) or SpreadNone
	GraceSeconds int    `json:"grace_seconds,omitempty"` // how long a voter may be dead before it is replaced; 0: 300
}

// Grace is how long a voter may be dead before it is replaced.
func (v Voters) Grace() time.Duration {
	return cmp.Or(time.Duration(v.GraceSeconds)*time.Second, defaultGrace)
}

// Limits bound what one app may use at each node; 0 is no limit.
type Limits struct {
	Channels   int `json:"channels,omitempty"`   // with a session at the node
	Publishers int `json:"publishers,omitempty"` // sessions that publish
	Viewers    int `json:"viewers,omitempty"`    // sessions that watch

	PublisherKbps int `json:"publisher_kbps,omitempty"` // bit rate of one publisher, all its tracks and layers together, in kbit/s
}

// FilterRateNames are the rates of the packet filter that a policy may set, as the filter itself calls them.
var FilterRateNames = []string{
	"peer", "peer_gossip", "flow", "flow_control", "source_ufrag", "source_stun", "source_mesh",
	"budget_ufrag", "budget_stun", "budget_quic", "budget_gossip",
}

// FilterRules tune the packet filter of every node.
type FilterRules struct {
	Rates map[string]FilterRate `json:"rates,omitempty"` // by FilterRateNames; what is left out keeps its default
}

// FilterRate is packets a second, and at once after a pause; see FilterRules.
type FilterRate struct {
	PerSecond int `json:"per_second"`
	Burst     int `json:"burst"`
}

// Alarms are thresholds; what a node sees pass one is a finding in its status and metrics. 0 is no alarm.
type Alarms struct {
	LossPercent         int `json:"loss_percent,omitempty"`          // of a link
	LinkDelayMS         int `json:"link_delay_ms,omitempty"`         // one-way, of a link
	UndeliveredPerMille int `json:"undelivered_per_mille,omitempty"` // media frames that no path brought
}

// AuditRules say how long the audit log keeps its entries.
type AuditRules struct {
	RetentionDays int `json:"retention_days,omitempty"` // 0: 90
}

// Retention is how long an entry of the audit log is kept.
func (a AuditRules) Retention() time.Duration {
	return cmp.Or(time.Duration(a.RetentionDays)*24*time.Hour, defaultRetention)
}

// sections are the parts of a document beside regions, apps and blocklist.
func (r *reader) sections(p *Policy) map[string]func(string, ast.Node) {
	return map[string]func(string, ast.Node){
		"voters": r.section(map[string]func(string, ast.Node){
			"count": r.number(&p.Voters.Count), "spread": r.text(&p.Voters.Spread), "grace_seconds": r.number(&p.Voters.GraceSeconds),
		}),
		"filter": r.section(map[string]func(string, ast.Node){"rates": r.rates(&p.Filter)}),
		"alarms": r.section(map[string]func(string, ast.Node){
			"loss_percent":          r.number(&p.Alarms.LossPercent),
			"link_delay_ms":         r.number(&p.Alarms.LinkDelayMS),
			"undelivered_per_mille": r.number(&p.Alarms.UndeliveredPerMille),
		}),
		"audit": r.section(map[string]func(string, ast.Node){"retention_days": r.number(&p.Audit.RetentionDays)}),
	}
}

// limits reads an app's.
func (r *reader) limits(to *Limits) func(string, ast.Node) {
	return r.section(map[string]func(string, ast.Node){
		"channels": r.number(&to.Channels), "publishers": r.number(&to.Publishers), "viewers": r.number(&to.Viewers),
		"publisher_kbps": r.number(&to.PublisherKbps),
	})
}

// rates reads the filter's by their names.
func (r *reader) rates(to *FilterRules) func(string, ast.Node) {
	return func(path string, n ast.Node) {
		known := make(map[string]func(string, ast.Node), len(FilterRateNames))
		for _, name := range FilterRateNames {
			known[name] = func(path string, n ast.Node) {
				var rate FilterRate
				r.fields(path, n, map[string]func(string, ast.Node){"per_second": r.number(&rate.PerSecond), "burst": r.number(&rate.Burst)})
				if to.Rates == nil {
					to.Rates = make(map[string]FilterRate)
				}
				to.Rates[name] = rate
			}
		}
		r.fields(path, n, known)
	}
}

// section is a mapping with a fixed set of keys.
func (r *reader) section(known map[string]func(string, ast.Node)) func(string, ast.Node) {
	return func(path string, n ast.Node) { r.fields(path, n, known) }
}

// number stores a whole number that is written as digits.
func (r *reader) number(to *int) func(string, ast.Node) {
	return func(path string, n ast.Node) {
		s, isScalar := scalar(n)
		v, err := strconv.Atoi(s)
		if !isScalar || err != nil {
			r.add(path, n, "must be a whole number")
			return
		}
		*to = v
	}
}

// sections checks the numbers and words of the sections.
func (v *validator) sections(p Policy) {
	if c := p.Voters.Count; c != 0 && c != 1 && c != 3 && c != maxPolicyVoters {
		v.add("voters.count", "%d is not 1, 3 or 5: an even number is no safer than the odd one below it", c)
	}
	if p.Voters.Spread != "" {
		v.mode("voters.spread", p.Voters.Spread, SpreadRegion, SpreadNone)
	}
	v.between("voters.grace_seconds", p.Voters.GraceSeconds, maxGrace)
	for _, name := range slices.Sorted(maps.Keys(p.Filter.Rates)) {
		path, rate := "filter.rates."+name, p.Filter.Rates[name]
		v.between(path+".per_second", rate.PerSecond, maxRatePerSecond)
		v.between(path+".burst", rate.Burst, maxRatePerSecond)
		if rate.PerSecond == 0 || rate.Burst == 0 {
			v.add(path, "needs per_second and burst above 0: leave the rate out for the default")
		}
	}
	v.between("alarms.loss_percent", p.Alarms.LossPercent, 100)
	v.between("alarms.link_delay_ms", p.Alarms.LinkDelayMS, maxDelayMS)
	v.between("alarms.undelivered_per_mille", p.Alarms.UndeliveredPerMille, 1000)
	v.between("audit.retention_days", p.Audit.RetentionDays, maxRetentionDays)
}

func (v *validator) limits(path string, l Limits) {
	v.between(path+".channels", l.Channels, maxLimit)
	v.between(path+".publishers", l.Publishers, maxLimit)
	v.between(path+".viewers", l.Viewers, maxLimit)
	v.between(path+".publisher_kbps", l.PublisherKbps, maxLimit)
}

func (v *validator) between(path string, n, most int) {
	if n < 0 || n > most {
		v.add(path, "%d is not between 0 and %d", n, most)
	}
}
