package run

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func fromEnv(key string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(key)); err == nil {
		return n
	}
	return otherwise
}

// farVoters is a mesh whose three voters are 150 ms (round trip) apart and whose other nodes sit beside them.
func farVoters(nodes int) string {
	var b strings.Builder
	b.WriteString("name: far-voters\nduration: 5s\nseed: 4\nnodes:\n")
	for i := range nodes {
		voter := ""
		if i < 3 {
			voter = ", voter: true"
		}
		fmt.Fprintf(&b, "  n%02d: {region: r%d%s}\n", i, i%3, voter)
	}
	b.WriteString("links:\n  default: {delay: 75ms, jitter: 1ms, loss: 0.1%}\n")
	return b.String()
}

// From the apply command's start to the instant at which every node enforces the version: real nodes, the whole stack, in
// virtual time. SIM_NODES and SIM_CHANGES ask for more than CI's.
func TestAPolicyIsEnforcedEverywhereSoon(t *testing.T) {
	nodes, changes := fromEnv("SIM_NODES", 9), fromEnv("SIM_CHANGES", 10)
	var took []time.Duration
	inMesh(t, parse(t, farVoters(nodes)), func(m *mesh) {
		for i := range changes {
			if d, ok := applyEverywhere(t, m, i); ok {
				took = append(took, d)
			}
			time.Sleep(time.Duration(2000+137*i) * time.Millisecond)
		}
	})
	if len(took) != changes {
		t.Fatalf("%d of %d changes", len(took), changes)
	}
	slices.Sort(took)
	t.Logf("%d nodes, voters 150 ms apart, %d changes: apply to enforced on all nodes p50 %v, p99 %v, max %v", nodes, changes,
		took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
	if p := took[len(took)*99/100]; p > 1500*time.Millisecond {
		t.Errorf("p99 %v, the target is 1.5s", p)
	}
}

// applyEverywhere applies one change through some node and waits until all enforce it.
func applyEverywhere(t *testing.T, m *mesh, i int) (time.Duration, bool) {
	n, _ := m.members[(7*i+5)%len(m.members)].living()
	want := n.Policy().Version + 1
	doc := fmt.Appendf(nil, "regions: [{id: r0}, {id: r1}, {id: r2}]\napps: [{id: demo, auth: app_id, name: change %d}]\n", i)
	begun := time.Now()
	if err := n.ApplyPolicy(context.Background(), doc, "test"); err != nil {
		t.Errorf("change %d: %v", i, err)
		return 0, false
	}
	answered := time.Since(begun)
	last := ""
	for time.Since(begun) < 30*time.Second {
		late := slices.ContainsFunc(m.members, func(one *member) bool {
			n, _ := one.living()
			if n.Policy().Version < want {
				last = one.Name
				return true
			}
			return false
		})
		if !late {
			t.Logf("change %d: answered after %v, enforced everywhere after %v, last by %s", i, answered, time.Since(begun), last)
			return time.Since(begun), true
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Errorf("change %d is not enforced everywhere after 30s", i)
	return 0, false
}

// noQuorum loses two of three voters after 5 s and never gets them back. Media that runs goes on, new media starts, nodes that
// restart, the last voter among them, come up with the policy on their disk, and a change fails.
const noQuorum = `
name: no-quorum
duration: %[1]s
warmup: 2s
seed: 9
nodes:
  fra: {region: eu, voter: true}
  iad: {region: us, voter: true}
  sin: {region: ap, voter: true}
  lhr: {region: eu}
  sfo: {region: us}
  nrt: {region: ap}
links:
  default: {delay: 40ms, jitter: 1ms}
policy: base
streams:
  - {name: running, from: lhr, to: [nrt], app: demo, packets_per_second: 20, size: 400}
  - {name: fresh, from: sfo, to: [nrt, lhr], app: demo, packets_per_second: 20, size: 400, start: %[2]s}
  - {name: voters, from: fra, to: [nrt, sfo], app: demo, packets_per_second: 20, size: 400, start: %[2]s}
events:
  - {at: 5s, node: iad, action: kill}
  - {at: 5s, node: sin, action: kill}
  - {at: %[3]s, node: sfo, action: restart}
  - {at: %[4]s, node: fra, action: restart}
  - {at: %[5]s, node: lhr, policy: changed}
`

// SIM_MINUTES asks for more than CI's two minutes without a quorum.
func TestWithoutAQuorumMediaGoesOnAndStarts(t *testing.T) {
	whole := time.Duration(fromEnv("SIM_MINUTES", 2)) * time.Minute
	text := fmt.Sprintf(noQuorum, whole, whole*2/3, whole/3, whole*5/12, whole/2)
	documents := map[string]string{
		"base":    "regions: [{id: eu}, {id: us}, {id: ap}]\napps: [{id: demo, auth: app_id}]\n",
		"changed": "regions: [{id: eu}, {id: us}, {id: ap}]\napps: [{id: other, auth: app_id}]\n",
	}
	r := simulate(t, text, documents)
	for _, stream := range r.Streams {
		if stream.Sent == 0 || stream.Delivered < stream.Sent {
			t.Errorf("%s: %d of %d delivered without a quorum", stream.Name, stream.Delivered, stream.Sent)
		}
	}
	if text := r.Summary(); !strings.Contains(text, "no leader") {
		t.Errorf("the change must have failed with a clear error:\n%s", text)
	}
	t.Logf("%v without a quorum: %d, %d and %d packets, all delivered", whole, r.Streams[0].Delivered, r.Streams[1].Delivered, r.Streams[2].Delivered)
}
