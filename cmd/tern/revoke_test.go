package main

import (
	"strings"
	"testing"
	"time"

	"github.com/ternmesh/tern/node"
)

// TestRevokeAndReadmit takes a node out of a mesh of three processes and back in.
func TestRevokeAndReadmit(t *testing.T) {
	if testing.Short() {
		t.Skip("three processes take some seconds")
	}
	binary := buildTern(t)
	nodes := startMesh(t, binary)
	for _, p := range nodes {
		p.until("three members and a leader", func(s node.Status) bool { return alive(s) == 3 && s.Control.Leader != "" })
	}
	apply(t, binary, nodes[1], testPolicy)
	for _, p := range nodes {
		p.until("policy 1 in force", func(s node.Status) bool { return s.PolicyVersion >= 1 })
	}
	bad, good := nodes[2], nodes[0]
	if out, err := tern(t, binary, "revoke", good.name, "--admin", good.admin); err == nil || !strings.Contains(out, "the node that was asked") {
		t.Errorf("revoking the node that is asked: %v\n%s", err, out)
	}
	out, err := tern(t, binary, "revoke", bad.name, "--reason", "stolen", "--admin", good.admin)
	if err != nil || !strings.Contains(out, bad.name+" stolen") {
		t.Fatalf("revoke: %v\n%s", err, out)
	}
	for _, p := range nodes[:2] {
		p.until("the revoked node is no member", func(s node.Status) bool { return alive(s) == 2 })
	}
	// A restart does not help it: no member lets it in.
	_ = bad.stop(9)
	bad.start()
	time.Sleep(3 * time.Second) // nothing shall happen: there is no condition to wait on
	for _, p := range nodes[:2] {
		if s, err := p.status(); err != nil || alive(s) != 2 {
			t.Errorf("%s sees %d members alive after the revoked node's restart: %v", p.name, alive(s), err)
		}
	}
	apply(t, binary, good, testPolicy) // a file that does not speak of it readmits nobody
	if s := good.until("policy 3", func(s node.Status) bool { return s.PolicyVersion >= 3 }); alive(s) != 2 {
		t.Errorf("%d members", alive(s))
	}
	if out, err := tern(t, binary, "readmit", bad.name, "--admin", good.admin); err != nil {
		t.Fatalf("readmit: %v\n%s", err, out)
	}
	for _, p := range nodes {
		p.until("three members, all with the newest policy", func(s node.Status) bool { return alive(s) == 3 && s.PolicyVersion >= 4 && s.State == node.StateServing })
	}
}

func TestSerialNumbersAsToolsPrintThem(t *testing.T) {
	for in, want := range map[string]string{"0A:1B:2C": "a1b2c", "5f1c": "5f1c", "": "", "00FF": "ff"} {
		if got := tidySerial(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}
