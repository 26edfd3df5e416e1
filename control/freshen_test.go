package control

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
)

// copyOf is what a Control would hand on.
func copyOf(c *Control) envelope {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.copy
}

func TestACopyGetsANewerSignatureBeforeItsSignersCertificateEnds(t *testing.T) {
	doc := storedDoc(t, sampleYAML)
	old := signed(t, "v1", 5, doc)
	c, enforced := follower(t, old)
	c.cfg.Lasting = func(cert []byte) bool { return !bytes.Equal(cert, old.Cert) }
	c.fetchNow(t.Context())
	if len(*enforced) != 1 {
		t.Fatal("the copy was not taken at first")
	}
	c.cfg.Members = func() []Member {
		return []Member{{Node: "f9", Alive: true}, {Node: "v2", Alive: true, Voter: true}, {Node: "v3", Voter: true}}
	}
	answers := map[string]envelope{
		"the same signer":    old,
		"another document":   signed(t, "v2", 5, []byte(`{"regions":[],"apps":[],"blocklist":[]}`)),
		"another version":    signed(t, "v2", 6, doc),
		"no voter signed it": signed(t, "f2", 5, doc),
		"a forged signature": {Version: 5, Document: doc, Cert: []byte("v2"), Sig: []byte("x")},
		"":                   signed(t, "v2", 5, doc),
	}
	ask := func(what string) bool {
		c.cfg.Call = func(_ context.Context, node string, b []byte) ([]byte, error) {
			var req request
			if err := json.Unmarshal(b, &req); err != nil || node != "v2" || req.Op != opEnvelope || req.Have != 4 {
				t.Errorf("asked %s: %s, %v", node, b, err)
			}
			e := answers[what]
			return json.Marshal(answer{Envelope: &e})
		}
		return c.freshen(t.Context())
	}
	for what := range answers {
		if what != "" && (ask(what) || string(copyOf(c).Cert) != "v1") {
			t.Errorf("%s was taken", what)
		}
	}
	if !ask("") || string(copyOf(c).Cert) != "v2" || len(*enforced) != 1 {
		t.Errorf("the copy is signed by %q, enforced %d times", copyOf(c).Cert, len(*enforced))
	}
	if again, err := New(c.cfg); err != nil || string(copyOf(again).Cert) != "v2" {
		t.Errorf("after a restart the copy is signed by %q, %v", copyOf(again).Cert, err)
	}
}

func TestAVoterSignsAgainWithItsNewCertificate(t *testing.T) {
	cfg := newMesh(t, 0).config("f1", 0)
	c, _ := follower(t, signed(t, "v1", 5, storedDoc(t, sampleYAML)))
	c.fetchNow(t.Context())
	cert := "v1"
	c.cfg.Voter = true
	c.cfg.Sign = func(msg []byte) ([]byte, []byte, error) { return []byte(cert), fakeSig([]byte(cert), msg), nil }
	c.cfg.Lasting = func(cert []byte) bool { return strings.HasSuffix(string(cert), "renewed") }
	if c.freshen(t.Context()) || string(copyOf(c).Cert) != "v1" {
		t.Error("it has no other certificate yet")
	}
	cert = "v1 renewed"
	if !c.freshen(t.Context()) || string(copyOf(c).Cert) != cert {
		t.Errorf("the copy is signed by %q", copyOf(c).Cert)
	}
	if _, err := copyOf(c).open(cfg.Verify); err != nil {
		t.Error(err)
	}
}
