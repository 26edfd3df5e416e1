package ebpf

import (
	"errors"
	"fmt"
	"time"

	cebpf "github.com/cilium/ebpf"
)

// BenchCase is what the kernel takes for one kind of packet.
type BenchCase struct {
	Name    string  `json:"name"`
	NS      float64 `json:"ns"`    // per packet, the cost of the test run included
	Ratio   float64 `json:"ratio"` // against a program that does nothing, in the same run
	Verdict string  `json:"verdict"`
}

// BenchReport is the result of Bench.
type BenchReport struct {
	NoopNS float64     `json:"noop_ns"`
	Cases  []BenchCase `json:"cases"`
}

const (
	benchRepeat = 1_000_000
	benchRounds = 5 // the fastest round counts: the others met an interrupt or a busy neighbour
)

// Bench measures the XDP program alone, in test runs on this processor, with a full blocklist. It takes about a second
// per case. The error wraps ErrUnsupported where the program cannot run.
func Bench() (BenchReport, error) {
	rules, packets := sampleCases()
	t, err := Compile(rules)
	if err != nil {
		return BenchReport{}, err
	}
	k, err := openKernel(t)
	if err != nil {
		return BenchReport{}, err
	}
	report, err := k.bench(rules, packets)
	return report, errors.Join(err, k.close())
}

func (k *kernel) bench(rules Rules, packets []sampleCase) (BenchReport, error) {
	var report BenchReport
	noop, err := fastest(k.objs.TernNoop, packets[0].frame)
	if err != nil {
		return report, err
	}
	report.NoopNS = noop
	for _, p := range packets {
		v, err := k.judge(p.frame, rules.Blocklist)
		if err != nil {
			return report, err
		}
		ns, err := fastest(k.objs.TernFilter, p.frame)
		if err != nil {
			return report, err
		}
		report.Cases = append(report.Cases, BenchCase{Name: p.name, NS: ns, Ratio: ns / noop, Verdict: v.String()})
	}
	return report, nil
}

func fastest(p *cebpf.Program, frame []byte) (float64, error) {
	best := time.Duration(1<<63 - 1)
	for range benchRounds {
		_, took, err := p.Benchmark(frame, benchRepeat/benchRounds, nil)
		if err != nil {
			return 0, fmt.Errorf("benchmark of the XDP program: %w", err)
		}
		best = min(best, took)
	}
	return float64(best.Nanoseconds()), nil
}
