package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ternmesh/tern/node"
)

// startLone starts a mesh of one voter whose admin listener speaks TLS with the node's own certificate.
func startLone(t *testing.T, binary string) *process {
	t.Helper()
	dir := t.TempDir()
	home := filepath.Join(dir, "lone")
	for _, args := range [][]string{
		{"ca", "init", "--dir", filepath.Join(dir, "ca"), "--mesh", "test"},
		{"ca", "issue", "--ca", filepath.Join(dir, "ca"), "--node", "lone", "--region", "eu", "--voter", "--out", home},
		{"ca", "admin", "--ca", filepath.Join(dir, "ca"), "--name", "alice", "--role", "operator", "--out", home},
		{"ca", "admin", "--ca", filepath.Join(dir, "ca"), "--name", "eve", "--role", "auditor", "--out", home},
	} {
		if out, err := tern(t, binary, args...); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	listen := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	config := fmt.Sprintf("node: lone\ndata_dir: data\nidentity: {ca: ../ca/ca.crt, cert: lone.crt, key: lone.key}\n"+
		"mesh: {listen: \"127.0.0.1:%d\"}\ncontrol: {voter: true}\naccess: {listen: \"127.0.0.1:%d\", udp: \"127.0.0.1:%d\"}\n"+
		"admin: {listen: %q, tls: {cert: lone.crt, key: lone.key}}\n", freePort(t), freePort(t), freePort(t), listen)
	if err := os.WriteFile(filepath.Join(home, "node.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, binary: binary, dir: home, name: "lone", listen: listen, admin: filepath.Join(home, "data", "admin.sock"), log: &lockedBuffer{}}
	p.start()
	p.until("a leader", func(s node.Status) bool { return s.Control.Leader != "" })
	return p
}

// TestWhoMayOperateANode goes through every proof and role with the built binary.
func TestWhoMayOperateANode(t *testing.T) {
	if testing.Short() {
		t.Skip("a process takes some seconds")
	}
	binary := buildTern(t)
	p := startLone(t, binary)
	apply(t, binary, p, testPolicy+"  - {id: other, auth: app_id}\n")
	ca, home := filepath.Join(p.dir, "../ca/ca.crt"), p.dir
	ask := func(proof []string, args ...string) (string, error) {
		return tern(t, binary, append(append(args, "--admin", "https://"+p.listen, "--admin-ca", ca), proof...)...)
	}
	token := func(name, role string, more ...string) []string {
		file := filepath.Join(home, name+".token")
		args := append([]string{"admin", "token", "create", "--name", name, "--role", role, "--out", file, "--admin", p.admin}, more...)
		if out, err := tern(t, binary, args...); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		return []string{"--token-file", file}
	}
	proofs := map[string][]string{
		"nobody":               nil,
		"operator certificate": {"--admin-cert", filepath.Join(home, "alice.crt"), "--admin-key", filepath.Join(home, "alice.key")},
		"auditor certificate":  {"--admin-cert", filepath.Join(home, "eve.crt"), "--admin-key", filepath.Join(home, "eve.key")},
		"node certificate":     {"--admin-cert", filepath.Join(home, "lone.crt"), "--admin-key", filepath.Join(home, "lone.key")},
		"operator token":       token("oscar", "operator"),
		"auditor token":        token("audrey", "auditor"),
		"app token":            token("shop", "app", "--app", "other"),
		"expired token":        token("late", "operator", "--expires", "1s"),
	}
	p.until("the last token has expired", func(s node.Status) bool { return s.PolicyVersion >= 5 })
	time.Sleep(1100 * time.Millisecond)                          // of another process's clock
	for _, c := range []struct{ who, read, act, policy string }{ // what the answer says; "" is done
		{"nobody", "who are you?", "who are you?", "who are you?"},
		{"node certificate", "who are you?", "who are you?", "who are you?"},
		{"expired token", "has expired", "has expired", "has expired"},
		{"operator certificate", "", "", ""},
		{"operator token", "", "", ""},
		{"auditor certificate", "", "is not allowed", ""},
		{"auditor token", "", "is not allowed", ""},
		{"app token", "is not allowed", "is not allowed", ""},
	} {
		for args, want := range map[string]string{"status": c.read, "uncordon lone": c.act, "policy get": c.policy} {
			if out, err := ask(proofs[c.who], strings.Fields(args)...); (err == nil) != (want == "") || !strings.Contains(out, want) {
				t.Errorf("%s, %s: %v\n%swant %q", c.who, args, err, out, want)
			}
		}
	}
	if out, _ := ask(proofs["app token"], "policy", "get"); !strings.Contains(out, "other") || strings.Contains(out, testApp) || strings.Contains(out, "audrey") {
		t.Errorf("an app's owner sees the policy of others:\n%s", out)
	}
	if out, err := tern(t, binary, "admin", "token", "revoke", "audrey", "--admin", p.admin); err != nil {
		t.Fatalf("revoke: %v\n%s", err, out)
	}
	if out, err := ask(proofs["auditor token"], "status"); err == nil || !strings.Contains(out, "not in the policy") {
		t.Errorf("a revoked token: %v\n%s", err, out)
	}
	p.until("the audit log has the acts and the denials", func(node.Status) bool {
		out, err := tern(t, binary, "audit", "tail", "--admin", p.admin)
		for _, want := range []string{"denied", "auditor audrey by token", "operator oscar by token", "auditor eve by certificate", "GET /v1/status"} {
			if err != nil || !strings.Contains(out, want) {
				return false
			}
		}
		return true
	})
	secret, _ := os.ReadFile(filepath.Join(home, "oscar.token"))
	if strings.Contains(p.log.String(), strings.TrimSpace(string(secret))) {
		t.Error("the token is in the log")
	}
}
