package run

import (
	"os"
	"slices"
	"testing"
)

func TestADrainedRelayLosesNoPacket(t *testing.T) {
	text, err := os.ReadFile("library/drain.yaml")
	if err != nil {
		t.Fatal(err)
	}
	r := virtually(t, string(text))
	for _, s := range r.Streams {
		if s.Sent == 0 || s.Delivered != s.Sent {
			t.Errorf("%s: %d of %d delivered while its relay was drained", s.Name, s.Delivered, s.Sent)
		}
	}
	one := r.Streams[1]
	through := func(p PathReport) bool { return slices.Contains(p.Hops, "iad") }
	before := slices.ContainsFunc(one.Paths, through)
	if !before {
		t.Errorf("the drained node never carried the stream, so the drain proves nothing: %+v", one.Paths)
	}
	// 90 ms direct against 40 ms through iad: the latency tells when it moved.
	first, last := one.Series.MeanMS[slices.IndexFunc(one.Series.MeanMS, func(ms float64) bool { return ms > 0 })], one.Series.MeanMS[len(one.Series.MeanMS)-2]
	if first > 60 || last < 80 {
		t.Errorf("mean latency %v ms at first and %v ms at last: did it move from the relay to the direct link?", first, last)
	}
}

// All relays in use are drained at once, with the direct link down: the only way left is one that was not in use.
const lastRelay = `
name: last-relay
duration: 12s
warmup: 3s
seed: 3
nodes:
  fra: {region: eu}
  nrt: {region: ap}
  iad: {region: us, voter: true}
  sfo: {region: us}
  sin: {region: ap}
  lhr: {region: eu}
links:
  default: {delay: 30ms}
  pairs:
    - {from: fra, to: nrt, both: true, delay: 600ms}
    - {from: fra, to: lhr, both: true, delay: 150ms}
policy: before
streams:
  - {name: cam, from: fra, to: [nrt], app: demo, packets_per_second: 200, size: 600}
events:
  - {at: 1s, link: fra-nrt, action: down}
  - {at: 5s, node: fra, policy: after}
`

func TestAllRelaysInUseAreDrainedAtOnce(t *testing.T) {
	const policy = "regions: [{id: eu}, {id: us}, {id: ap}]\napps: [{id: demo, auth: app_id}]\n"
	documents := map[string]string{
		"before": policy,
		"after":  policy + "nodes: {iad: {state: drained}, sfo: {state: drained}, sin: {state: drained}}\n",
	}
	r := simulate(t, lastRelay, documents)
	cam := r.Streams[0]
	if !r.Safe || cam.Delivered != cam.Sent || cam.Sent == 0 {
		t.Errorf("%d of %d delivered\n%s", cam.Delivered, cam.Sent, r.Summary())
	}
	if !slices.ContainsFunc(cam.Paths, func(p PathReport) bool { return slices.Contains(p.Hops, "lhr") && p.Sent > 500 }) {
		t.Errorf("the stream never moved to the relay that is left: %+v", cam.Paths)
	}
}

// A publisher and its viewers are real WebRTC clients at two nodes that are drained at once, and stopped when they should have moved
// to the third. The library's drained-upgrade is the whole story.
const clientsOfDrained = `
name: clients-of-drained
duration: 11s
warmup: 2s
seed: 11
nodes:
  fra: {region: eu, voter: false}
  iad: {region: us, voter: true}
  sin: {region: ap, voter: false}
links:
  default: {delay: 40ms}
policy: before
streams:
  - {name: cam, from: fra, to: [sin], viewers: 2, app: demo, packets_per_second: 50, size: 300, webrtc: true, deadline: 600ms, last_mile: {delay: 10ms}}
events:
  - {at: 2500ms, node: iad, policy: after}
  - {at: 9500ms, node: fra, action: stop}
  - {at: 9500ms, node: sin, action: stop}
`

func TestClientsOfDrainedNodesMoveWithoutALoss(t *testing.T) {
	const policy = "regions: [{id: eu}, {id: us}, {id: ap}]\napps: [{id: demo, auth: app_id}]\n"
	documents := map[string]string{
		"before": policy,
		"after":  policy + "nodes: {fra: {state: drained}, sin: {state: drained}}\n",
	}
	r := simulate(t, clientsOfDrained, documents)
	cam := r.Streams[0]
	if !r.Safe || cam.Sent == 0 || cam.Delivered != cam.Sent || cam.LongestGap > 500 {
		t.Errorf("%d of %d delivered, the longest gap %v ms\n%s", cam.Delivered, cam.Sent, cam.LongestGap, r.Summary())
	}
}
