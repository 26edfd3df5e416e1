package run

import "testing"

const revoked = `
name: revoked
duration: 10s
warmup: 3s
seed: 4
nodes:
  fra: {region: eu}
  nrt: {region: ap}
  iad: {region: us}
  sfo: {region: us}
  lhr: {region: eu}
links:
  default: {delay: 60ms}
  pairs:
    - {from: fra, to: iad, both: true, delay: 20ms}
    - {from: iad, to: nrt, both: true, delay: 20ms}
policy: before
streams:
  - {name: through, from: fra, to: [nrt], app: demo, packets_per_second: 200, size: 600}
  - {name: of, from: iad, to: [nrt], app: demo, packets_per_second: 100, size: 600, stop: 9s}
events:
  - {at: 5s, node: fra, policy: after}
`

func TestARevokedNodeIsCutOffAndNobodyElseNotices(t *testing.T) {
	const policy = "regions: [{id: eu}, {id: us}, {id: ap}]\napps: [{id: demo, auth: app_id}]\n"
	documents := map[string]string{"before": policy, "after": policy + "revoked: [{node: iad, reason: stolen}]\n"}
	r := simulate(t, revoked, documents)
	through, of := r.Streams[0], r.Streams[1]
	if through.Sent == 0 || through.Delivered != through.Sent {
		t.Errorf("%d of %d packets delivered that went through the node at first", through.Delivered, through.Sent)
	}
	// From 3 s to 5 s it may publish, from 5 s and a moment for the policy to spread it may not.
	if of.Delivered < 190 || of.Delivered > 300 {
		t.Errorf("%d of %d packets of the revoked node were delivered, want those of two seconds\n%s", of.Delivered, of.Sent, r.Summary())
	}
}
