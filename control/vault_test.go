package control

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// fenced is a policy with an app in each region and one in both.
func fenced(secretEU string) []byte {
	return fmt.Appendf(nil, `regions: [{id: eu}, {id: us}]
apps:
  - {id: only-eu, certificates: ["%s"], fence: [eu]}
  - {id: only-us, certificates: ["%s"], fence: [us]}
  - {id: both, certificates: ["%s", "%s"]}
`, secretEU, secretB, secretA, secretB)
}

// secretsOf lists what a node holds in the clear, by app.
func secretsOf(n *node) map[string]string {
	out := make(map[string]string)
	for _, a := range n.c.Policy().Apps {
		out[a.ID] = strings.Join(a.Certificates, ",")
	}
	return out
}

const secretEU = "0123456789abcdef0123456789abcdef"

func startFenced(m *mesh) {
	for _, name := range []string{"v1-eu", "v2-us", "v3-us", "f1-eu", "f2-us"} {
		m.start(name, 3)
	}
	m.until(15*time.Second, "led", func() bool { return m.leader() != nil })
}

func TestCertificatesReachOnlyNodesInsideTheFence(t *testing.T) {
	bubble(t, 40*time.Millisecond, func(t *testing.T, m *mesh) {
		startFenced(m)
		apply(t, m.get("f1-eu"), fenced(secretEU))
		m.until(10*time.Second, "enforced", m.everyoneAt(1))
		m.until(10*time.Second, "opened", func() bool {
			return secretsOf(m.get("f1-eu"))["only-eu"] == secretEU && secretsOf(m.get("f2-us"))["only-us"] == secretB
		})
		for name, want := range map[string]map[string]string{
			"f1-eu": {"only-eu": secretEU, "only-us": "", "both": secretA + "," + secretB},
			"f2-us": {"only-eu": "", "only-us": secretB, "both": secretA + "," + secretB},
		} {
			if got := secretsOf(m.get(name)); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s holds %v, want %v", name, got, want)
			}
			if e := m.get(name).c.Enforcement(); e.Trouble != "" {
				t.Errorf("%s: %s", name, e.Trouble)
			}
		}
		if p, err := m.get("f2-us").c.Committed(t.Context()); err != nil || p.Apps[0].Certificates[0] != Fingerprint(secretEU) {
			t.Errorf("what is shown is a fingerprint, sealed or not: %+v %v", p.Apps[0], err)
		}
		for _, name := range []string{"v2-us", "f1-eu", "f2-us"} {
			shownStands(t, m.get(name))
		}
		m.stopAll()
		noSecretOnDisk(t, m.dir, secretEU, secretA, secretB)

		lone := m.start("f1-eu", 0) // without anybody: from its own disk
		time.Sleep(time.Second)
		if got := secretsOf(lone)["only-eu"]; got != secretEU {
			t.Errorf("restarted alone, it must still open its certificates: %q", got)
		}
		lone.stop()
		if err := os.Remove(filepath.Join(m.dir, "f1-eu", "node.key")); err != nil {
			t.Fatal(err)
		}
		lone = m.start("f1-eu", 0) // somebody has a copy of the directory, but not the key file
		time.Sleep(time.Second)
		if got := secretsOf(lone)["only-eu"]; got != "" {
			t.Errorf("opened without the key file: %q", got)
		}
		if e := lone.c.Enforcement(); !strings.Contains(e.Trouble, "certificates of 2 apps are sealed") {
			t.Errorf("it must say what it cannot enforce: %+v", e)
		}
		m.start("v1-eu", 3)
		m.until(20*time.Second, "keys handed out again", func() bool { return secretsOf(lone)["only-eu"] == secretEU })
	})
}

// shownStands checks that what a node shows is the whole policy, also of apps whose fence leaves it out: whoever edits one
// section there and applies the rest as it was shown changes nothing else.
func shownStands(t *testing.T, n *node) {
	t.Helper()
	shown, err := n.c.Shown()
	if err != nil || len(shown.Apps) != 3 || shown.Apps[0].Certificates[0] != Fingerprint(secretEU) || shown.Apps[1].Certificates[0] != Fingerprint(secretB) {
		t.Errorf("%s shows %+v %v, want every certificate as its fingerprint", n.name, shown.Apps, err)
	}
	out, err := n.c.Propose(t.Context(), Proposal{Policy: &shown, Who: "test", DryRun: true})
	if err != nil || len(out.Changes) > 0 || out.Base != shown.Version {
		t.Errorf("%s: what it shows, applied, would change %v on top of version %d: %v", n.name, out.Changes, out.Base, err)
	}
}

// noSecretOnDisk reads every file of the mesh.
func noSecretOnDisk(t *testing.T, dir string, secrets ...string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		b, err := os.ReadFile(path)
		for _, s := range secrets {
			if bytes.Contains(b, []byte(s)) {
				t.Errorf("%s holds a certificate in the clear", path)
			}
		}
		return err
	})
	if err != nil || files < 10 {
		t.Errorf("%d files: %v", files, err)
	}
}

func TestCertificatesMoveRotateAndRollBack(t *testing.T) {
	bubble(t, 20*time.Millisecond, func(t *testing.T, m *mesh) {
		startFenced(m)
		f := m.get("f2-us")
		apply(t, f, fenced(secretEU))
		kept := strings.ReplaceAll(string(fenced(Fingerprint(secretEU))), secretA, Fingerprint(secretA))
		kept = strings.ReplaceAll(kept, secretB, Fingerprint(secretB))
		// The same by fingerprint: nothing changes, not a byte.
		before := m.leader().c.copy.Document
		out, err := f.c.Propose(t.Context(), Proposal{Document: []byte(kept)})
		if err != nil || len(out.Changes) != 0 {
			t.Fatalf("%+v %v", out.Changes, err)
		}
		m.until(5*time.Second, "enforced", m.everyoneAt(2))
		if after := m.leader().c.copy.Document; !bytes.Equal(before, after) {
			t.Errorf("nothing was changed, and the stored document is another")
		}
		// Moved to the other fence by fingerprint: sealed anew.
		apply(t, f, []byte(strings.Replace(kept, "fence: [eu]", "fence: [us]", 1)))
		m.until(5*time.Second, "opened in us", func() bool { return secretsOf(f)["only-eu"] == secretEU })
		m.until(5*time.Second, "gone from eu", func() bool { return secretsOf(m.get("f1-eu"))["only-eu"] == "" })
		// Rotation with overlap: the old one second, then gone; then back by its fingerprint, from the history.
		const fresh = "fedcba9876543210fedcba9876543210"
		apply(t, f, []byte(strings.Replace(kept, Fingerprint(secretEU), fresh+`", "`+Fingerprint(secretEU), 1)))
		apply(t, f, []byte(strings.Replace(kept, Fingerprint(secretEU), Fingerprint(fresh), 1)))
		m.until(5*time.Second, "only the new one", func() bool { return secretsOf(m.get("f1-eu"))["only-eu"] == fresh })
		old, err := f.c.PolicyAt(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := Render(old)
		if err != nil {
			t.Fatal(err)
		}
		apply(t, f, doc)
		m.until(5*time.Second, "the old one again", func() bool { return secretsOf(m.get("f1-eu"))["only-eu"] == secretEU })
		// A revocation makes new keys.
		was := m.leader().c.copy.Document
		apply(t, f, append(doc, []byte("revoked: [{node: f9}]\n")...))
		oldPolicy, _ := decodeDocument(was, 1)
		newPolicy, _ := decodeDocument(m.leader().c.copy.Document, 1)
		for _, v := range newPolicy.vault {
			for _, o := range oldPolicy.vault {
				if v.ID == o.ID {
					t.Errorf("fence %v kept its key over a revocation", v.Fence)
				}
			}
		}
		m.until(5*time.Second, "opened with the new key", func() bool { return secretsOf(m.get("f1-eu"))["only-eu"] == secretEU })
	})
}

func TestKeyFilesRotateAndAreJudged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.key")
	first, err := loadNodeKeys(path, true)
	if err != nil || len(first) != 1 {
		t.Fatal(err)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	box, err := sealTo(first[0].public, wrapInfo, []byte("key"))
	if err != nil {
		t.Fatal(err)
	}
	other, err := loadNodeKeys(filepath.Join(t.TempDir(), "node.key"), true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openWith(other, wrapInfo, box); err == nil {
		t.Error("another node opened it")
	}
	if _, err := openWith(first, handInfo, box); err == nil {
		t.Error("opened for another purpose")
	}
	both := append(other, first...) // the new key above, the old one below
	if plain, err := openWith(both, wrapInfo, box); err != nil || string(plain) != "key" {
		t.Errorf("during a rotation the old key must still open: %v", err)
	}
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"open to others": {"", 0o644, "chmod 600"},
		"empty":          {"# nothing\n", 0o600, "holds no key"},
		"not base64":     {"hello\n", 0o600, "line 1 is not a key"},
		"too short":      {"aGVsbG8=\n", 0o600, "line 1 is not a key"},
	} {
		p := filepath.Join(t.TempDir(), "k")
		if err := os.WriteFile(p, []byte(c.text), c.mode); err != nil {
			t.Fatal(err)
		}
		if _, err := loadNodeKeys(p, true); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestSealedCertificateIsBoundToItsApp(t *testing.T) {
	k := newFenceKey([]string{"eu"})
	s, err := k.seal("a", secretA)
	if err != nil || strings.Contains(s, secretA) || fingerprintOf(s) != Fingerprint(secretA) {
		t.Fatalf("%s %v", s, err)
	}
	parsed, err := parseSealed(s)
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := k.open("a", parsed); err != nil || plain != secretA {
		t.Errorf("%q %v", plain, err)
	}
	if _, err := k.open("b", parsed); err == nil {
		t.Error("app b opened app a's certificate")
	}
	if _, err := Parse([]byte("regions: [{id: eu}]\napps: [{id: a, certificates: ['" + s + "']}]")); err == nil || !strings.Contains(err.Error(), "stored certificates") {
		t.Errorf("nobody writes a sealed certificate into a document: %v", err)
	}
}

func FuzzSealed(f *testing.F) {
	s, err := newFenceKey(nil).seal("a", secretA)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(s)
	f.Add("sealed:")
	f.Fuzz(func(t *testing.T, s string) {
		_, _ = parseSealed(s)
		if fp := fingerprintOf(s); !strings.HasPrefix(fp, fingerprintPrefix) {
			t.Errorf("%q is shown as %q", s, fp)
		}
	})
}

func FuzzNodeKeys(f *testing.F) {
	f.Add([]byte("# x\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"))
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = parseNodeKeys(b) })
}
