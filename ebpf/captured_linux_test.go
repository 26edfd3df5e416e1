package ebpf

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// maxTestRun is how much of a frame a test run of the kernel takes, in bytes.
const maxTestRun = 3000

// CompareCaptured holds frames that were captured from nodes and clients at work against both implementations: as they are,
// none of them may be dropped for its form, and with the live rules on and in damaged copies the verdicts must be equal.
// TERN_FILTER_PACKETS is for how many at least, TERN_FILTER_SEED repeats a run.
func CompareCaptured(t *testing.T, mesh, access uint16, frames [][]byte) {
	seed := number(t, "TERN_FILTER_SEED", rand.Uint64())
	r := rand.New(rand.NewPCG(seed, 6))
	copies := int(number(t, "TERN_FILTER_PACKETS", 30_000)) / max(1, len(frames))
	form := compile(Rules{MeshPort: mesh, AccessPort: access})
	k, table := needKernel(t, Rules{MeshPort: mesh, AccessPort: access, GuardMesh: true, GuardAccess: true})
	seen, compared, now := map[string]int{}, 0, uint64(1_000*ufragEpochNS)
	for i, p := range frames {
		whole := len(p) <= maxTestRun
		p = p[:min(len(p), maxTestRun)] // runs of the sender's offload are longer
		if v := form.Frame(p); whole && v.Action == Drop {
			t.Errorf("our own traffic would be dropped: %v, frame %x", v, p)
		}
		if src := frameSource(p); src.IsValid() && r.IntN(40) == 0 {
			k.guard.addPeer(src)
			k.guard.admit("captured", netip.AddrPortFrom(src, framePort(p)), now)
		}
		for n := range copies + 1 {
			q := slices.Clone(p)
			if n > 0 {
				q = damage(r, q)
			}
			now += uint64(r.IntN(400_000))
			v := compare(t, k, table, q[:min(len(q), maxTestRun)], now, fmt.Sprintf("captured frame %d; seed %d", i, seed))
			compared++
			if n == 0 {
				seen[v.Class.String()+" "+v.Reason.String()]++
			}
		}
	}
	for _, class := range []Class{ClassGossip, ClassPath, ClassQUIC, ClassSTUN, ClassDTLS, ClassRTP, ClassRTCP, ClassNone} {
		if !slices.ContainsFunc(frames, func(p []byte) bool { return form.Frame(p).Class == class }) {
			t.Errorf("nothing of class %v was captured", class)
		}
	}
	t.Logf("%d frames captured, %d verdicts compared, seed %d; of the frames as they were: %v", len(frames), compared, seed, seen)
}

// framePort is the source port of a plain IPv4 datagram.
func framePort(p []byte) uint16 {
	if len(p) < 38 {
		return 0
	}
	return uint16(p[34])<<8 | uint16(p[35])
}
