package ebpf

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"

	cebpf "github.com/cilium/ebpf"
)

var tried = sync.OnceValue(func() error {
	k, err := openKernel(compile(Rules{}), newGuard(DefaultLimits()), nil)
	if err == nil {
		err = k.close()
	}
	return err
})

// runnable skips a test with the reason where the kernel cannot run the program; under CI a machine that cannot is a
// failure, so that the kernel tests cannot fall silent.
func runnable(t testing.TB) {
	t.Helper()
	err, refused := tried(), (*cebpf.VerifierError)(nil)
	switch {
	case err == nil:
	case errors.As(err, &refused):
		t.Fatalf("the verifier refuses the program: %+v", refused)
	case os.Getenv("CI") == "true":
		t.Fatalf("CI has to run the kernel tests: %v", err)
	default:
		t.Skipf("the kernel cannot run the XDP program here: %v", err)
	}
}

// needKernel loads the program with rules, unattached.
func needKernel(t testing.TB, rules Rules) (*kernel, *Table) {
	t.Helper()
	runnable(t)
	table, err := Compile(rules)
	if err != nil {
		t.Fatal(err)
	}
	g := newGuard(tightLimits())
	k, err := openKernel(table, g, nil)
	if err != nil {
		t.Fatal(err)
	}
	g.feed(k)
	t.Cleanup(func() {
		if err := k.close(); err != nil {
			t.Errorf("unload: %v", err)
		}
	})
	return k, table
}

// number reads a count or a seed from the environment.
func number(t testing.TB, name string, otherwise uint64) uint64 {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 0, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// TERN_FILTER_PACKETS makes the run longer, TERN_FILTER_SEED repeats one.
func TestKernelAndTwinGiveTheSameVerdicts(t *testing.T) {
	t.Parallel()
	total := number(t, "TERN_FILTER_PACKETS", 120_000)
	seed := number(t, "TERN_FILTER_SEED", rand.Uint64())
	r := rand.New(rand.NewPCG(seed, 1))
	k, table := needKernel(t, drawRules(r))
	w := newDrawnWorld(r, k.guard)
	seen := map[string]int{}
	for i := range total {
		w.step()
		if i%4_000 == 3_999 { // other rules, through the running program
			var err error
			if table, err = Compile(drawRules(r)); err != nil {
				t.Fatal(err)
			}
			if err := k.replace(table); err != nil {
				t.Fatal(err)
			}
		}
		v := compare(t, k, table, w.packet(), w.now, fmt.Sprintf("packet %d; again with TERN_FILTER_SEED=%d", i, seed))
		seen[v.Class.String()+" "+v.Reason.String()]++
	}
	for reason, name := range reasonNames {
		found := 0
		for c := range classes {
			found += seen[c.String()+" "+name]
		}
		if found == 0 && total >= 120_000 {
			t.Errorf("no packet of %d had the verdict %v (%d): the comparison does not cover it", total, name, reason)
		}
	}
	t.Logf("%d packets, seed %d, verdicts: %v", total, seed, seen)
}

// Full tables, at the edges of their rules.
func TestKernelAndTwinAgreeOnCrowdedBlocklists(t *testing.T) {
	t.Parallel()
	seed := number(t, "TERN_FILTER_SEED", rand.Uint64())
	r := rand.New(rand.NewPCG(seed, 4))
	rules := crowds()
	rules.GuardMesh, rules.GuardAccess = false, false
	k, table := needKernel(t, rules)
	blocked := 0
	for i := range 20_000 {
		s := sample{src: edges(rules.Blocklist, r), port: rules.MeshPort, payload: samplePath(9)}
		if v := compare(t, k, table, s.frame(), 0, fmt.Sprintf("%v, number %d of seed %d", s.src, i, seed)); v.Action == Drop {
			blocked++
		}
	}
	if blocked < 5_000 || blocked > 19_000 {
		t.Errorf("%d of 20,000 blocked: the comparison sees one side alone", blocked)
	}
}

func compare(t testing.TB, k *kernel, table *Table, p []byte, now uint64, which string) Verdict {
	t.Helper()
	twin := table.frame(p, k.guard, now)
	xdp, err := k.judge(p, table.rules.Blocklist, now)
	if err != nil {
		t.Fatalf("%s: %v", which, err)
	}
	if xdp != twin {
		t.Fatalf("%s\nkernel: %v\ntwin:   %v\nframe:  %x\nat:     %d\nrules:  %+v", which, xdp, twin, p, now, table.rules)
	}
	return twin
}
