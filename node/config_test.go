package node

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const goodConfig = `
node: fra1
data_dir: data
identity: {ca: ca.crt, cert: fra1.crt, key: fra1.key}
mesh: {listen: 127.0.0.1:7900, join: ["127.0.0.1:7910"]}
`

func load(t *testing.T, text string, environ ...string) (Config, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "node.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return LoadConfig(file, environ)
}

func TestAMinimalConfigGetsDefaults(t *testing.T) {
	c, err := load(t, goodConfig)
	if err != nil {
		t.Fatal(err)
	}
	if c.Mesh.Advertise != "127.0.0.1:7900" || c.Access.Listen != "127.0.0.1:8080" || c.Carrier != "frames" || c.Control.Expect != 1 {
		t.Errorf("defaults: %+v", c)
	}
	if !filepath.IsAbs(c.DataDir) || !filepath.IsAbs(c.Identity.Key) {
		t.Errorf("file names are not relative to the file: %s, %s", c.DataDir, c.Identity.Key)
	}
}

func TestAConfigurationIsARegularFileOfABoundedSize(t *testing.T) {
	dir := t.TempDir()
	pipe, long := filepath.Join(dir, "pipe"), filepath.Join(dir, "long")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(long, []byte(goodConfig+strings.Repeat("#", maxConfig)), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{pipe: "no regular file", "/dev/zero": "no regular file", dir: "no regular file", long: "longer than"} {
		if _, err := LoadConfig(file, nil); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestTheEnvironmentOverrides(t *testing.T) {
	c, err := load(t, goodConfig, "TERN_MESH_LISTEN=127.0.0.1:1", "TERN_CONTROL_VOTER=true", "TERN_CONTROL_EXPECT=3", "TERN_MESH_JOIN=a:1, b:2", "PATH=/bin")
	if err != nil {
		t.Fatal(err)
	}
	if c.Mesh.Listen != "127.0.0.1:1" || !c.Control.Voter || c.Control.Expect != 3 || strings.Join(c.Mesh.Join, " ") != "a:1 b:2" {
		t.Errorf("%+v %+v", c.Mesh, c.Control)
	}
	for env, want := range map[string]string{
		"TERN_MESH_LISTN=x":        "did you mean TERN_MESH_LISTEN",
		"TERN_CONTROL_VOTER=maybe": "neither true nor false",
		"TERN_CONTROL_EXPECT=many": "not a whole number",
	} {
		if _, err := load(t, goodConfig, env); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", env, err, want)
		}
	}
}

func TestBadConfigsSayWhatToDo(t *testing.T) {
	for name, c := range map[string]struct{ add, want string }{
		"unknown key":     {"meshh: {}\n", `unknown key "meshh", did you mean "mesh"?`},
		"unknown subkey":  {"access: {lissten: x}\n", `unknown key "access.lissten", did you mean "listen"?`},
		"tokens in clear": {"access: {listen: 0.0.0.0:80}\n", "would take tokens in the clear"},
		"half of tls":     {"access: {tls: {cert: a}}\n", "cert and key go together"},
		"address":         {"admin: {listen: localhost}\n", "is not IP:PORT"},
		"ports":           {"access: {rtp_ports: 5}\n", "is not FIRST-LAST"},
		"everywhere":      {"access: {udp: 0.0.0.0:1}\n", "name the one that others reach"},
		"mode":            {"filter: {mode: iptables}\n", "not one of auto, xdp, go"},
		"carrier":         {"carrier: pigeon\n", "not one of frames, datagram"},
		"lone voters":     {"control: {voter: true}\n", "is needed for a voter that joins others"},
		"even voters":     {"control: {voter: true, expect: 2}\n", "2 is not 1, 3 or 5 voters"},
	} {
		if _, err := load(t, goodConfig+c.add); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v\nwant %q", name, err, c.want)
		}
	}
	_, err := load(t, "carrier: pigeon\nlog: {level: loud}\n")
	for _, want := range []string{"node:", "data_dir: is needed", "identity.key: is needed", "carrier:", "log.level:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("all errors at once: %v\nlacks %q", err, want)
		}
	}
}
