package ebpf

import "testing"

func TestRelayDecisionsBeyondTheRoomAreCounted(t *testing.T) {
	var r relays
	for n := range uint32(maxOnward + 2) {
		if s := r.slot(OnwardKey{Source: n}, 1); (s != nil) != (n < maxOnward) {
			t.Fatalf("decision %d: slot %v", n, s)
		}
	}
	if r.slot(OnwardKey{Source: 3}, 2) == nil || r.total.Refused != 2 {
		t.Errorf("%d refused, want 2, and one that is there is repeated", r.total.Refused)
	}
}
