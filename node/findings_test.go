package node

import (
	"strings"
	"testing"
	"time"

	"github.com/ternmesh/tern/control"
	"github.com/ternmesh/tern/mesh"
)

// well is a status with nothing to say about.
func well(now time.Time) Status {
	return Status{
		Node: "fra", PolicyVersion: 3, Joins: 2, CertificateBegins: now.Add(-275 * 24 * time.Hour), CertificateExpires: now.Add(90 * 24 * time.Hour),
		Control: control.Status{Voter: true, Leader: "iad", Voters: []string{"fra", "iad", "sin"}, PolicySeconds: 60},
		Members: []MemberStatus{
			{Node: "fra", Alive: true, PolicyVersion: 3}, {Node: "iad", Alive: true, PolicyVersion: 3}, {Node: "sin", Alive: true, PolicyVersion: 3},
			{Node: "old", State: mesh.StateLeft}, // stopped by its operator: nothing to do
		},
		Links: []LinkStatus{{From: "fra", To: "iad"}, {From: "iad", To: "sin", Down: true}},
		Braids: []BraidStatus{{
			Peer: "sin", PacketsDelivered: 100_000, Undelivered: 20,
			Out: []PathStatus{{Active: true, Alive: true}, {Active: true, Alive: true}, {Active: false}},
		}},
	}
}

func TestFindingsSayWhatIsWrongAndWhatToDo(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	cases := []struct {
		name     string
		change   func(*Status)
		severity string
		where    string
	}{
		{findNoPolicy, func(s *Status) { s.PolicyVersion = 0 }, SeverityCritical, "fra"},
		{findNoLeader, func(s *Status) { s.Control.Leader = "" }, SeverityCritical, "fra"},
		{findControl, func(s *Status) { s.Control.LastError = "disk full" }, SeverityWarning, "fra"},
		{findDead, func(s *Status) { s.Members[1].Alive = false }, SeverityWarning, "iad"},
		{findDead, func(s *Status) { m := &s.Members[1]; m.Alive, m.Voter, m.State = false, true, mesh.StateLeft }, SeverityWarning, "iad"},
		{findBehind, func(s *Status) { s.Members[2].PolicyVersion = 2 }, SeverityWarning, "sin"},
		{findLinkDown, func(s *Status) { s.Links[0].Down = true }, SeverityWarning, "fra > iad"},
		{findNoPath, func(s *Status) { s.Braids[0].Out[0].Alive, s.Braids[0].Out[1].Alive = false, false }, SeverityCritical, "fra > sin"},
		{findOnePath, func(s *Status) { s.Braids[0].Out[0].Alive = false }, SeverityWarning, "fra > sin"},
		{findUndelivered, func(s *Status) { s.Braids[0].Undelivered = 200 }, SeverityWarning, "sin > fra"},
		{findLimited, func(s *Status) {
			s.Braids[0].Budget = BudgetStatus{Copies: 1.8, DemandKbps: 10_000, LimitKbps: 18_000, LimitedBy: "peer"}
		}, SeverityWarning, "fra > sin"},
		{findTooNarrow, func(s *Status) {
			s.Braids[0].Budget = BudgetStatus{Copies: 1, DemandKbps: 20_000, LimitKbps: 11_000, LimitedBy: "path"}
		}, SeverityCritical, "fra > sin"},
		{findFilterFull, func(s *Status) { s.FilterFull = true }, SeverityWarning, "fra"}, {findFilter, func(s *Status) { s.FilterWhy = "no privilege" }, SeverityWarning, "fra"},
		{findCertificate, func(s *Status) { s.CertificateExpires = now.Add(10 * 24 * time.Hour) }, SeverityWarning, "identity.cert"},
		{findCertificate, func(s *Status) { s.CertificateExpires = now.Add(-time.Hour) }, SeverityCritical, "identity.cert"},
		{findEnforce, func(s *Status) { s.Trouble = "version 2: the filter did not take its rules" }, SeverityCritical, "fra"},
		{findAlarm, func(s *Status) { s.alarms.LinkDelayMS = 1; s.Links[0].LatencyMS = 2 }, SeverityWarning, "fra > iad"},
		{findLease, func(s *Status) {
			s.Lease = &LeaseStatus{Verdict: "EXPIRED", Do: "renew", Expires: now.Add(-time.Hour)}
		}, SeverityCritical, "identity.lease"},
		{findLease, func(s *Status) {
			s.Lease = &LeaseStatus{Verdict: "VALID_WARN", Good: true, Do: "look at the log", DaysLeft: 4.9, Expires: now.Add(117 * time.Hour)}
		}, SeverityWarning, "identity.lease"},
		{findRenewal, func(s *Status) {
			s.Lease = &LeaseStatus{Verdict: "VALID", Good: true, Alarm: "connect", Trouble: "one:7903: connection refused"}
		}, SeverityWarning, "authorities"},
		{findRenewal, func(s *Status) { s.Lease = &LeaseStatus{Verdict: "VALID", Good: true, Alarm: "not_listed"} }, SeverityWarning, "authorities"},
		{findRenewal, func(s *Status) { s.Lease = &LeaseStatus{Verdict: "VALID", Good: true, Alarm: "clock"} }, SeverityWarning, "authorities"},
		{findClock, func(s *Status) {
			s.Clocks = []ClockStatus{{"iad", 3600}, {"sin", 3599}, {"gru", 0.01}}
		}, SeverityCritical, "fra"},
		{findClock, func(s *Status) { s.Clocks = []ClockStatus{{"iad", 0.2}, {"sin", -7}, {"gru", 0.01}} }, SeverityWarning, "sin"},
		{findCarried, func(s *Status) { s.Direct.Carriers = map[string]string{"iad": "sin", "gone": "sin"} }, SeverityWarning, "fra > iad"},
		{findAlone, func(s *Status) { s.Members, s.Braids, s.Links = s.Members[:1], nil, nil }, SeverityCritical, "fra"},
	}
	if got := findings(well(now), now); len(got) != 0 {
		t.Fatalf("a node that is well has findings: %v", got)
	}
	seen := make(map[string]bool)
	for _, c := range cases {
		s := well(now)
		c.change(&s)
		got := findings(s, now)
		seen[c.name] = true
		if len(got) != 1 || got[0].Name != c.name || got[0].Severity != c.severity || got[0].Where != c.where {
			t.Errorf("%s: got %v", c.name, got)
			continue
		}
		if got[0].What == "" || got[0].Do == "" {
			t.Errorf("%s lacks what is wrong or what to do: %v", c.name, got[0])
		}
	}
	for _, name := range findingNames {
		if !seen[name] {
			t.Errorf("no case makes %s", name)
		}
	}
}

// A change is in force everywhere after a few seconds: until then nobody is behind.
func TestAChangeOfThisMomentIsNoFinding(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	s := well(now)
	s.PolicyVersion, s.Control.PolicySeconds = 4, 1 // nobody else has it yet
	if found := findings(s, now); len(found) > 0 {
		t.Errorf("%+v", found)
	}
	s.Control.PolicySeconds = 10
	if found := findings(s, now); len(found) != 2 || found[0].Name != findBehind {
		t.Errorf("ten seconds later the two others must be named: %+v", found)
	}
}

func TestFindingsPutTheWorstFirst(t *testing.T) {
	now := time.Now()
	s := well(now)
	s.Links[0].Down, s.PolicyVersion = true, 0
	got := findings(s, now)
	if len(got) != 2 || got[0].Severity != SeverityCritical || !strings.HasPrefix(got[1].String(), "warning: fra > iad: ") {
		t.Errorf("got %v", got)
	}
}
