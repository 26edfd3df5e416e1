package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/ternmesh/tern/control"
)

// endless is a file without an end, such as a device.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// What is no policy is refused after as much as a policy may have, not when the machine's memory is full.
func TestPolicyInputIsBounded(t *testing.T) {
	cmd := &cobra.Command{}
	cmd.SetIn(endless{})
	for _, file := range []string{"-", "/dev/zero"} {
		if doc, err := readInput(cmd, file); err == nil || !strings.Contains(err.Error(), "is no policy") {
			t.Errorf("%s: %d bytes (%v)", file, len(doc), err)
		}
	}
	cmd.SetIn(strings.NewReader(strings.Repeat(" ", control.MaxDocumentBytes)))
	if doc, err := readInput(cmd, "-"); err != nil || len(doc) != control.MaxDocumentBytes {
		t.Errorf("the longest that is allowed: %d bytes (%v)", len(doc), err)
	}
}

// What the command sends is the policy that it read; what it cannot read goes as it is, so that the node names the lines.
func TestAPolicyIsSentAsJSON(t *testing.T) {
	sent := compact([]byte("regions: [{id: eu}]\napps: [{id: a, auth: app_id}]\n"))
	if want := `{"regions":[{"id":"eu"}],"apps":[{"id":"a","auth":"app_id","redundancy":"full"}],"blocklist":[]}`; string(sent) != want {
		t.Errorf("sent %s, want %s", sent, want)
	}
	for _, doc := range []string{"regions: [", "apps: [{id: a, oath: x}]", ""} {
		if got := string(compact([]byte(doc))); got != doc {
			t.Errorf("%q is sent as %q", doc, got)
		}
	}
}

// An exported log is held against what every node remembers, and its beginning against what the voters keep.
func TestAnExportThatWasCutIsFound(t *testing.T) {
	log := []control.AuditEntry{{Seq: 1, Hash: "a"}, {Seq: 2, Hash: "b"}, {Seq: 3, Hash: "c"}}
	seen := []control.AuditWitness{{Node: "fra", Mark: control.AuditMark{Seq: 3, Hash: "c"}}}
	changed := []control.AuditEntry{log[0], log[1], {Seq: 3, Hash: "x"}}
	for name, c := range map[string]struct {
		entries []control.AuditEntry
		fits    bool
	}{
		"whole": {log, true}, "its beginning cut": {log[1:], false}, "its end cut": {log[:2], false}, "changed": {changed, false},
	} {
		err := judgeWitnesses(io.Discard, "bad", c.entries, seen)
		if err == nil {
			err = judgeBeginning(c.entries, log)
		}
		if (err == nil) != c.fits {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := judgeBeginning(log, log[2:]); err != nil {
		t.Errorf("an export from before the voters let go of old entries: %v", err)
	}
}

// answering is a node's admin listener of which a test writes the answers; asked are the requests it got.
func answering(t *testing.T, answer http.HandlerFunc) (address string, asked *[]string) {
	t.Helper()
	asked = new([]string)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		*asked = append(*asked, r.Method+" "+r.URL.Path+" "+string(body))
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://"), asked
}

func TestALogWithoutEntriesDoesNotVerify(t *testing.T) {
	address, _ := answering(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "[]") })
	for _, flags := range [][]string{nil, {"--json"}} {
		if got := run(t.Context(), append([]string{"audit", "verify", "--admin", address}, flags...)); got != 1 {
			t.Errorf("%v: status %d, want 1", flags, got)
		}
	}
}

func TestATokenThatCannotBeKeptIsNotMade(t *testing.T) {
	address, asked := answering(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") })
	out := filepath.Join(t.TempDir(), "no such folder", "token")
	if got := run(t.Context(), []string{"admin", "token", "create", "--name", "a", "--role", "auditor", "--out", out, "--admin", address}); got != 1 || len(*asked) != 0 {
		t.Errorf("status %d, asked %q", got, *asked)
	}
}

func TestADocumentThatTheNodeRefusesIsJudgedByItsOwnLines(t *testing.T) {
	address, asked := answering(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnprocessableEntity)
		fmt.Fprint(w, `{"error": "line 2: no"}`)
	})
	file := filepath.Join(t.TempDir(), "policy.yaml")
	doc := "regions: [{id: eu}]\napps: [{id: a, auth: app_id}]\n"
	if err := os.WriteFile(file, []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
	got := run(t.Context(), []string{"policy", "apply", "-f", file, "--admin", address})
	if last := (*asked)[len(*asked)-1]; got != 1 || len(*asked) != 2 || last != "PUT /v1/policy "+doc {
		t.Errorf("status %d, asked %q", got, *asked)
	}
}

func TestWhatIsRevokedIsNamedOnce(t *testing.T) {
	for _, c := range []struct{ node, serial, want string }{{"", "", "name a node, or"}, {"a", "1", "not both"}} {
		if err := oneOf(c.node, c.serial); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q and %q: %v", c.node, c.serial, err)
		}
	}
	if oneOf("a", "") != nil || oneOf("", "1") != nil {
		t.Error("one name is refused")
	}
}

func TestAnExportWithoutEntriesDoesNotVerify(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit.jsonl")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := run(t.Context(), []string{"audit", "verify", "--file", file}); got != 1 {
		t.Errorf("status %d, want 1", got)
	}
}
