package ebpf

import (
	"errors"
	"fmt"
	"time"

	cebpf "github.com/cilium/ebpf"
)

const (
	benchRepeat = 1_000_000
	benchRounds = 5 // the fastest round counts: the others met an interrupt or a busy neighbour
)

// Bench measures the XDP program alone, in test runs on this processor, with a full blocklist and the live rules on, but
// no rates: a test run would meet them at once. A case is the slowest of several packets of its kind. It
// takes a few seconds. The error wraps ErrUnsupported where the program cannot run.
func Bench() (BenchReport, error) {
	k, rules, packets, err := openBench()
	if err != nil {
		return BenchReport{}, err
	}
	all, err := k.bench(rules, packets)
	if err = errors.Join(err, k.close()); err != nil {
		return BenchReport{}, err
	}
	report := BenchReport{NoopNS: all.NoopNS}
	for _, row := range []string{rowBlocked, rowAdmitted, rowNoise, rowPath} {
		worst := BenchCase{}
		for i, c := range all.Cases {
			if packets[i].row == row && c.NS >= worst.NS {
				worst = c
			}
		}
		worst.Name = row
		report.Cases = append(report.Cases, worst)
	}
	return report, nil
}

// openBench loads the program for the sample cases.
func openBench() (*kernel, Rules, []sampleCase, error) {
	rules, packets := sampleCases()
	t, err := Compile(rules)
	if err != nil {
		return nil, rules, nil, err
	}
	g := newGuard(Limits{})
	g.ufrag = sampleKey
	g.know(rules)
	k, err := openKernel(t, g, monotonic()-judgeAt)
	if err == nil {
		g.feed(k)
	}
	return k, rules, packets, err
}

func (k *kernel) bench(rules Rules, packets []sampleCase) (BenchReport, error) {
	var report BenchReport
	noop, err := fastest(k.objs.TernNoop, packets[0].frame)
	if err != nil {
		return report, err
	}
	report.NoopNS = noop
	for _, p := range packets {
		v, err := k.judge(p.frame, rules.Blocklist, monotonic())
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

// fastest measures in whole nanoseconds per packet.
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
