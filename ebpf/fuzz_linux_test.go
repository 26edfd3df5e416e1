package ebpf

import (
	"os"
	"testing"
)

// openFuzzKernel compares with the kernel where it can; elsewhere the fuzz target still has the twin to itself.
func openFuzzKernel(f *testing.F, table *Table) func(*testing.T, []byte) {
	g := newGuard(tightLimits())
	k, err := openKernel(table, g, nil)
	if err != nil {
		if os.Getenv("CI") == "true" {
			f.Fatalf("CI has to fuzz the kernel's program too: %v", err)
		}
		f.Logf("fuzzing the twin alone: %v", err)
		return func(*testing.T, []byte) {}
	}
	g.feed(k)
	now := uint64(ufragEpochNS)
	f.Cleanup(func() { k.close() })
	return func(t *testing.T, frame []byte) {
		if len(frame) >= 14 && len(frame) <= 3000 { // what the kernel's test run takes
			now += 200_000
			compare(t, k, table, frame, now, "fuzzed frame")
		}
	}
}
