package node

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/ternmesh/tern/control"
	"github.com/ternmesh/tern/mesh"
)

// Severities of a Finding. Critical: clients are hurt or are about to be. Warning: they are not yet.
const (
	SeverityWarning  = "warning"
	SeverityCritical = "critical"
)

// Finding is one thing that is not as it should be, with the way out. Name has few values: it labels metrics and alerts.
type Finding struct {
	Severity string `json:"severity"`
	Name     string `json:"name"`
	Where    string `json:"where"` // a node, "a > b" for a link or a braid, or a file's key
	What     string `json:"what"`
	Do       string `json:"do"`
}

func (f Finding) String() string {
	return fmt.Sprintf("%s: %s: %s; %s", f.Severity, f.Where, f.What, f.Do)
}

// Names of findings; metrics show each of them, with zero where there is none.
const (
	findNoPolicy    = "no_policy"
	findNoLeader    = "no_leader"
	findControl     = "control_error"
	findDead        = "member_dead"
	findBehind      = "policy_behind"
	findLinkDown    = "link_down"
	findNoPath      = "no_path"
	findOnePath     = "one_path"
	findUndelivered = "undelivered"
	findLimited     = "limited"
	findTooNarrow   = "too_narrow"
	findFilter      = "filter_degraded"
	findFilterFull  = "filter_full"
	findCertificate = "certificate_expires"
	findAlone       = "alone"
	findEnforce     = "not_enforced"
	findAlarm       = "alarm"
	findLease       = "lease"
	findRenewal     = "lease_renewal"
	findClock       = "clock"
	findCarried     = "carried"
)

var findingNames = []string{
	findNoPolicy, findNoLeader, findControl, findDead, findBehind, findLinkDown, findNoPath, findOnePath, findUndelivered, findLimited, findTooNarrow,
	findFilter, findFilterFull, findCertificate, findAlone, findEnforce, findAlarm, findLease, findRenewal, findClock, findCarried,
}

// Thresholds of findings.
const (
	certificateSoon  = 14 * 24 * time.Hour
	certificateNow   = 3 * 24 * time.Hour
	undeliveredShare = 0.001 // of the media frames sent to this node over a braid's life
	undeliveredLeast = 10    // frames; fewer prove nothing
	behindAfter      = 5.0   // seconds: a change takes up to three to be in force everywhere, and gossip another to say so
)

// findings judges a status; pure. The worst come first, then by name and place, so that two looks compare.
func findings(s Status, now time.Time) []Finding {
	var out []Finding
	add := func(severity, name, where, what, do string) {
		out = append(out, Finding{Severity: severity, Name: name, Where: where, What: what, Do: do})
	}
	controlFindings(s, add)
	memberFindings(s, add)
	braidFindings(s, add)
	alarmFindings(s, add)
	if s.Trouble != "" {
		add(SeverityCritical, findEnforce, s.Node, "the policy is not enforced wholly: "+s.Trouble, "it is tried again every two seconds; `tern policy apply --dry-run` and docs/policy.md say what the policy needs")
	}
	if s.FilterWhy != "" {
		add(SeverityWarning, findFilter, s.Node, "the kernel does not filter: "+s.FilterWhy, "run `tern doctor` for the missing privilege or feature; the Go twin filters meanwhile")
	}
	if s.FilterFull {
		add(SeverityWarning, findFilterFull, s.Node, "a table of the packet filter was full within the last ten minutes: known senders may be dropped",
			"see `tern filter status` and tern_filter_no_room_total for which one; spread clients over more nodes")
	}
	clockFindings(s, add)
	if s.Lease != nil { // it says what there is to say of the certificate, too
		leaseFindings(*s.Lease, add)
	} else {
		certificateFindings(s, now, add)
	}
	sort.SliceStable(out, func(i, j int) bool {
		a, b := out[i], out[j]
		if a.Severity != b.Severity {
			return a.Severity == SeverityCritical
		}
		return a.Name+a.Where < b.Name+b.Where
	})
	return out
}

type addFinding func(severity, name, where, what, do string)

func controlFindings(s Status, add addFinding) {
	if s.PolicyVersion == 0 {
		add(SeverityCritical, findNoPolicy, s.Node, "there is no policy, nobody is admitted", "apply one: `tern policy apply -f policy.yaml`")
	}
	if s.Control.Voter && s.Control.Leader == "" && s.Control.Role != control.RoleNoDisk { // which has a finding of its own
		add(SeverityCritical, findNoLeader, s.Node, "raft has no leader: the policy cannot change (media goes on)",
			"bring back a majority of the voters "+strings.Join(s.Control.Voters, ", "))
	}
	if s.Control.LastError != "" {
		add(SeverityWarning, findControl, s.Node, s.Control.LastError, "see docs/policy.md; `tern status --json` has the details under control")
	}
}

func memberFindings(s Status, add addFinding) {
	for _, m := range s.Members {
		switch {
		case m.Node == s.Node:
		case !m.Alive && m.State == mesh.StateLeft:
			if m.Voter {
				add(SeverityWarning, findDead, m.Node, "a voter, and it was stopped", "start it again, or let another node vote in its place (docs/policy.md): the policy changes only while a majority of the voters runs")
			}
		case !m.Alive:
			add(SeverityWarning, findDead, m.Node, "gossip has declared it dead", "start it, or ignore this if it was taken away: it is forgotten after an hour")
		case m.PolicyVersion < s.PolicyVersion && s.Control.PolicySeconds >= behindAfter:
			add(SeverityWarning, findBehind, m.Node, fmt.Sprintf("enforces policy %d, %s has %d", m.PolicyVersion, s.Node, s.PolicyVersion),
				"it fetches copies by itself within seconds; if this lasts, look at its log")
		}
	}
	alone := len(s.Members) < 2 && s.Joins > 0
	if alone {
		add(SeverityCritical, findAlone, s.Node, "no other node was reached", "check mesh.join, the firewall for the mesh port (UDP) and that both certificates are of one CA: `tern doctor`")
	}
	for to, by := range s.Direct.Carriers {
		if aliveMember(s, to) {
			add(SeverityWarning, findCarried, s.Node+" > "+to, "no direct connection between two voters: "+by+" carries raft and policy changes",
				"check the network and both firewalls for the mesh port (UDP); the direct way is tried every ten seconds")
		}
	}
	for _, l := range s.Links {
		if l.From == s.Node && l.Down && aliveMember(s, l.To) {
			add(SeverityWarning, findLinkDown, l.From+" > "+l.To, "no probe is answered; other paths are used", "check the network and both firewalls for the mesh port (UDP)")
		}
	}
}

func aliveMember(s Status, node string) bool {
	for _, m := range s.Members {
		if m.Node == node {
			return m.Alive
		}
	}
	return false
}

func braidFindings(s Status, add addFinding) {
	for _, b := range s.Braids {
		where := s.Node + " > " + b.Peer
		alive := 0
		for _, p := range b.Out {
			if p.Active && p.Alive {
				alive++
			}
		}
		switch {
		case !aliveMember(s, b.Peer):
			continue // said as a dead member
		case alive == 0 && len(b.Out) > 0:
			add(SeverityCritical, findNoPath, where, "no path answers", "`tern paths "+s.Node+" "+b.Peer+"` shows what routing can see; check the links above")
		case alive == 1 && len(s.Members) > 2:
			add(SeverityWarning, findOnePath, where, "media rides one path only", "`tern paths "+s.Node+" "+b.Peer+"` says why; a fence with more nodes or mended links gives more paths")
		}
		budgetFindings(where, b, add)
		total := b.PacketsDelivered + b.Undelivered
		if b.Undelivered >= undeliveredLeast && float64(b.Undelivered) > undeliveredShare*float64(total) {
			add(SeverityWarning, findUndelivered, b.Peer+" > "+s.Node, fmt.Sprintf("%d of %d media frames never came", b.Undelivered, total),
				"all paths lose at once: `tern status` shows what each lost and rescued")
		}
	}
}

// alarmFindings holds what this node measures against the thresholds of the policy.
func alarmFindings(s Status, add addFinding) {
	const do = "the threshold is in the policy's section alarms"
	for _, l := range s.Links {
		if l.From != s.Node || l.Down {
			continue
		}
		where := l.From + " > " + l.To
		if limit := s.alarms.LossPercent; limit > 0 && l.Loss*100 > float64(limit) {
			add(SeverityWarning, findAlarm, where, fmt.Sprintf("loses %.1f %%, more than %d %%", l.Loss*100, limit), do)
		}
		if limit := s.alarms.LinkDelayMS; limit > 0 && l.LatencyMS > float64(limit) {
			add(SeverityWarning, findAlarm, where, fmt.Sprintf("takes %.0f ms, more than %d ms", l.LatencyMS, limit), do)
		}
	}
	for _, b := range s.Braids {
		total := b.PacketsDelivered + b.Undelivered
		if limit := s.alarms.UndeliveredPerMille; limit > 0 && total > 0 && b.Undelivered*1000 > uint64(limit)*total {
			add(SeverityWarning, findAlarm, b.Peer+" > "+s.Node, fmt.Sprintf("%d of %d media frames never came, more than %d of 1000", b.Undelivered, total, limit), do)
		}
	}
}

func certificateFindings(s Status, now time.Time, add addFinding) {
	if s.CertificateExpires.IsZero() {
		return
	}
	left := s.CertificateExpires.Sub(now)
	severity := SeverityWarning
	switch {
	case left > certificateSoon || left > s.CertificateExpires.Sub(s.CertificateBegins)*7/10: // a certificate for a week is renewed daily
		return
	case left <= certificateNow:
		severity = SeverityCritical
	}
	what := fmt.Sprintf("the node's certificate ends on %s", s.CertificateExpires.UTC().Format(time.DateTime))
	if left <= 0 {
		what = fmt.Sprintf("the node's certificate ended on %s: no peer talks to it any more", s.CertificateExpires.UTC().Format(time.DateTime))
	}
	add(severity, findCertificate, "identity.cert", what, "issue a new one (`tern ca issue`), replace the files; the node takes them up by itself")
}

// budgetFindings tells of bottlenecks. One path's own is routine: the others carry what it does not.
func budgetFindings(where string, b BraidStatus, add addFinding) {
	g := b.Budget
	shared := map[string]string{"link": "the link to the first hop", "peer": "what all paths to it share", "node": "what all that this node sends shares"}[g.LimitedBy]
	switch {
	case g.LimitKbps > 0 && g.LimitKbps < g.DemandKbps:
		add(SeverityCritical, findTooNarrow, where, fmt.Sprintf("%.0f kbit/s of media, room for %.0f: the oldest packets are dropped", g.DemandKbps, g.LimitKbps),
			"publishers are asked for less where they listen; lower their bitrates, or give the network more room")
	case shared != "":
		add(SeverityWarning, findLimited, where, fmt.Sprintf("%s carries %.0f kbit/s: %.1f copies of each frame go out", shared, g.LimitKbps, g.Copies),
			"the media itself is whole; for all copies the network needs more room, or `redundancy: adaptive` fewer copies")
	}
}
