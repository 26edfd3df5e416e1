package control

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

func body(t testing.TB, when time.Time, who string) json.RawMessage {
	t.Helper()
	b, err := bodyOf(AuditBody{When: when, Who: who, Action: "test", Result: AuditDenied})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func filled(t testing.TB, n int) *auditLog {
	l := &auditLog{}
	for i := range n {
		if err := l.append(body(t, epoch.Add(time.Duration(i)*time.Hour), fmt.Sprint("who", i)), uint64(i/3), 1000*time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func TestAuditChainShowsEveryTampering(t *testing.T) {
	if _, err := VerifyAudit(filled(t, 10).entries); err != nil {
		t.Fatalf("an untouched log is whole: %v", err)
	}
	for name, spoil := range map[string]func([]AuditEntry) []AuditEntry{
		"a changed body": func(e []AuditEntry) []AuditEntry {
			e[4].Body = json.RawMessage(strings.Replace(string(e[4].Body), "who4", "who5", 1))
			return e
		},
		"a changed number": func(e []AuditEntry) []AuditEntry { e[4].Version = 99; return e },
		"a line taken out": func(e []AuditEntry) []AuditEntry { return append(e[:4], e[5:]...) },
		"lines swapped":    func(e []AuditEntry) []AuditEntry { e[4], e[5] = e[5], e[4]; return e },
		"a body and its own hash changed": func(e []AuditEntry) []AuditEntry {
			e[4].Body = json.RawMessage(`{"who":"mallory"}`)
			e[4].Hash = e[4].sum()
			return e
		},
	} {
		if _, err := VerifyAudit(spoil(filled(t, 10).entries)); err == nil || !strings.Contains(err.Error(), "entry") {
			t.Errorf("%s must be found and named: %v", name, err)
		}
	}
}

func TestAuditForgetsByAgeAndKeepsTheChain(t *testing.T) {
	l := &auditLog{}
	for i := range 100 {
		if err := l.append(body(t, epoch.Add(time.Duration(i)*time.Hour), "ann"), 1, 24*time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	if len(l.entries) != 25 || l.base.Seq != 75 || l.entries[0].Prev != l.base.Hash {
		t.Errorf("%d entries from %d on, base %+v", len(l.entries), l.entries[0].Seq, l.base)
	}
	if _, err := VerifyAudit(l.entries); err != nil {
		t.Error(err)
	}
	if got := l.after(98); len(got) != 2 || got[0].Seq != 99 {
		t.Errorf("after 98: %v", got)
	}
	if got := l.after(3); len(got) != 25 {
		t.Errorf("after an entry that is gone: %d", len(got))
	}
}

func TestChangesAndDenialsReachTheAuditLogOfTheMesh(t *testing.T) {
	bubble(t, 75*time.Millisecond, func(t *testing.T, m *mesh) {
		startSix(m)
		m.until(15*time.Second, "led", func() bool { return m.leader() != nil })
		out, err := m.get("f1").c.Propose(context.Background(), Proposal{Document: numbered(1), Who: "ann", From: "192.0.2.1:5"})
		if err != nil || out.Version != 1 || len(out.Changes) == 0 {
			t.Fatalf("%+v %v", out, err)
		}
		for range 1000 { // a flood of equal ones is one line
			m.get("f2").c.Record(AuditBody{Who: "eve", From: "192.0.2.66", Action: "PUT /v1/policy", Result: AuditDenied, Detail: "no token"})
		}
		time.Sleep(6 * time.Second)
		entries, err := m.get("f3").c.Audit(t.Context(), 0)
		if err != nil || len(entries) != 2 {
			t.Fatalf("%d entries, %v", len(entries), err)
		}
		if _, err := VerifyAudit(entries); err != nil {
			t.Error(err)
		}
		first, _ := entries[0].Read()
		if !strings.HasPrefix(first.Who, "ann") || first.From != "192.0.2.1:5" || first.Result != AuditDone || entries[0].Version != 1 ||
			first.Before != "" || len(first.After) != 64 || len(first.Changes) == 0 {
			t.Errorf("the change: %+v", first)
		}
		second, _ := entries[1].Read()
		if second.Who != "eve" || second.Count != 1000 || second.Result != AuditDenied || second.From != "192.0.2.66, via f2" {
			t.Errorf("the denials: %+v", second)
		}
		if strings.Contains(string(entries[0].Body), secretA) {
			t.Error("the audit log holds a secret")
		}
		apply(t, m.get("f1"), numbered(2))
		m.until(5*time.Second, "enforced everywhere", m.everyoneAt(2))
		for _, w := range m.get("f1").c.AuditWitnesses(t.Context()) {
			if w.Mark.Seq != 3 || len(w.Mark.Hash) != 64 {
				t.Errorf("%s remembers %+v", w.Node, w)
			}
		}
	})
}

func TestDenialsWaitForALeaderAndAreBounded(t *testing.T) {
	bubble(t, 20*time.Millisecond, func(t *testing.T, m *mesh) {
		f := m.start("f1", 0)
		for i := range maxRecords + 10 {
			f.c.Record(AuditBody{Who: fmt.Sprint("eve", i), Action: "x", Result: AuditDenied})
		}
		if got := f.c.Status().Unrecorded; got != 10 {
			t.Errorf("%d dropped, want 10", got)
		}
		time.Sleep(10 * time.Second)
		for _, v := range []string{"v1", "v2", "v3"} {
			m.start(v, 3)
		}
		m.until(60*time.Second, "all recorded", func() bool {
			e, err := f.c.Audit(context.Background(), 0)
			return err == nil && len(e) >= maxRecords
		})
	})
}

// Who is denied again and again, each time for something else, does not push out what people did.
func TestAFloodOfDenialsLeavesTheAuditLog(t *testing.T) {
	bubble(t, 20*time.Millisecond, func(t *testing.T, m *mesh) {
		for _, v := range []string{"v1", "v2", "v3"} {
			m.start(v, 3)
		}
		m.until(15*time.Second, "led", func() bool { return m.leader() != nil })
		c := m.get("v1").c
		flood := func() {
			for i := range 400 {
				c.Record(AuditBody{Who: "eve", Action: fmt.Sprint(time.Now().UnixNano(), i), Result: AuditDenied})
			}
		}
		for range 5 {
			flood()
			time.Sleep(20 * time.Second)
		}
		e, err := c.Audit(t.Context(), 0)
		if err != nil || len(e) != maxRecords {
			t.Fatalf("%d entries, %v; want %d", len(e), err, maxRecords)
		}
		time.Sleep(recordEvery)
		flood()
		time.Sleep(10 * time.Second)
		e, err = c.Audit(t.Context(), e[len(e)-1].Seq)
		if err != nil || len(e) != 1 {
			t.Fatalf("%d entries later, %v; want 1", len(e), err)
		}
		if last, _ := e[0].Read(); !strings.Contains(last.Detail, "1744 more since") {
			t.Errorf("%+v does not say how many had none", last)
		}
	})
}

// An answer that was lost is asked for again, and the change is made once.
func TestTheSameChangeIsMadeOnce(t *testing.T) {
	bubble(t, 20*time.Millisecond, func(t *testing.T, m *mesh) {
		for _, v := range []string{"v1", "v2", "v3"} {
			m.start(v, 3)
		}
		m.until(15*time.Second, "led", func() bool { return m.leader() != nil })
		req := request{Op: opApply, ID: "same", Document: numbered(1), Who: "ann"}
		for range 3 {
			if a, err := m.leader().c.lead(context.Background(), req); err != nil || a.Outcome.Version != 1 {
				t.Fatalf("%+v %v", a, err)
			}
		}
	})
}

func TestDryRunAndStrandingChangeNothing(t *testing.T) {
	bubble(t, 20*time.Millisecond, func(t *testing.T, m *mesh) {
		for _, v := range []string{"v1", "v2", "v3"} {
			m.start(v, 3)
		}
		m.until(15*time.Second, "led", func() bool { return m.leader() != nil })
		apply(t, m.get("v1"), numbered(1))
		c := m.get("v2").c
		out, err := c.Propose(t.Context(), Proposal{Document: numbered(2), DryRun: true})
		if err != nil || out.Base != 1 || out.Version != 2 || len(out.Stranded) != 1 {
			t.Errorf("dry run: %+v %v", out, err)
		}
		_, err = c.Propose(t.Context(), Proposal{Document: numbered(2)})
		if err == nil || !strings.Contains(err.Error(), `app "app1" is removed`) || !strings.Contains(err.Error(), "--force") {
			t.Errorf("stranding must be refused and say how to insist: %v", err)
		}
		p, err := c.Committed(t.Context())
		if err != nil || p.Version != 1 {
			t.Errorf("nothing may have changed: version %d, %v", p.Version, err)
		}
		if old, err := c.PolicyAt(t.Context(), 1); err != nil || old.Apps[0].Certificates[0] != Fingerprint(secretA) {
			t.Errorf("version 1 of the history: %+v %v", old, err)
		}
	})
}

func FuzzVerifyAudit(f *testing.F) {
	good, err := json.Marshal(filled(f, 3).entries)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`[{"seq":1,"hash":"","body":1}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var entries []AuditEntry
		if json.Unmarshal(b, &entries) != nil {
			return
		}
		last, err := VerifyAudit(entries)
		if err == nil && len(entries) > 0 && last.Seq != entries[len(entries)-1].Seq {
			t.Fatalf("%d entries verified to %+v", len(entries), last)
		}
		for _, e := range entries {
			_, _ = e.Read()
		}
	})
}
