package authority

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTheAuditLogCannotBeChangedUnseen(t *testing.T) {
	w := newWorld(t)
	for _, node := range []string{"a", "b", "c"} {
		w.invite(node)
	}
	file := filepath.Join(w.dir, "book", auditFile)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(whole), "\n")
	for what, c := range map[string]struct{ text, says string }{
		"whole":                {string(whole), ""},
		"a line changed":       {strings.Replace(string(whole), `"node":"b"`, `"node":"x"`, 1), "line 3 does not follow"},
		"a line taken out":     {lines[0] + lines[2], "line 2 does not follow"},
		"the end cut off":      {lines[0] + lines[1], "lacks its end"},
		"the last one changed": {strings.Replace(string(whole), `"node":"c"`, `"node":"x"`, 1), "lacks its end"},
		"rubbish added":        {string(whole) + "{}x\n", "line 4"},
	} {
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		n, err := w.cfg.Store.Audit(func(Line) error { return nil })
		if c.says == "" && (err != nil || n != 3) || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %d lines, %v; want %q", what, n, err, c.says)
		}
	}
	if err := os.WriteFile(file, whole[:len(whole)-5], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.cfg.Store.Invite(time.Now(), w.trust, Order{Node: "d", Region: "eu", Valid: time.Hour}); err == nil {
		t.Error("an order was taken although the log ends in half a line")
	}
}

// Older files are the operator's to move away: what is there must not be overwritten by the next one.
func TestAnAuditLogThatGrewGoesOnInANewFile(t *testing.T) {
	s, err := OpenStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(s.dir, auditFile)
	deny := func(reason string) error {
		return s.Deny(time.Unix(1_800_000_000, 0), Order{Who: "op", Node: "a", Reason: reason})
	}
	grow := func() {
		if err := deny(""); err != nil {
			t.Fatal(err)
		}
		line, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(log, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteAt(append([]byte{'\n'}, line...), rotateAt) // a hole before it
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		grow()
	}
	grow()
	if err := os.Remove(filepath.Join(s.dir, "audit-000001.jsonl")); err != nil {
		t.Fatal(err)
	}
	if err := deny(""); err != nil {
		t.Fatal(err)
	}
	var names []string
	files, err := s.auditFiles()
	for _, f := range files {
		names = append(names, filepath.Base(f))
	}
	if want := []string{"audit-000002.jsonl", "audit-000003.jsonl", auditFile}; err != nil || !slices.Equal(names, want) {
		t.Errorf("the log is in %v, want %v (%v)", names, want, err)
	}
	if err := deny(strings.Repeat("x", maxLine)); err == nil {
		t.Error("a line was written that cannot be read back")
	}
}

func FuzzAuditLine(f *testing.F) {
	f.Add([]byte(`{"time":1,"prev":"","action":"lease","who":"me"}` + "\n"))
	f.Add([]byte("\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := OpenStore(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(s.dir, auditFile), b, 0o600); err != nil {
			t.Fatal(err)
		}
		if n, err := s.Audit(func(Line) error { return nil }); err == nil && n > bytes.Count(b, []byte("\n"))+1 {
			t.Fatalf("%d lines of %q", n, b)
		}
	})
}
