package ebpf

import (
	"errors"
	"fmt"
	"math"
	"slices"

	cebpf "github.com/cilium/ebpf"
)

const (
	benchRounds = 25
	benchRepeat = 40_000 // packets in a round
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
	k, err := openKernel(t, g, func() uint64 { return judgeAt })
	if err == nil {
		g.feed(k)
	}
	return k, rules, packets, err
}

// bench takes the program and the one that does nothing by turns, in short rounds, so that both meet the same processor;
// the fastest round of each counts, since the others met an interrupt or a busy neighbour.
func (k *kernel) bench(rules Rules, packets []sampleCase) (BenchReport, error) {
	noop, best := math.Inf(1), slices.Repeat([]float64{math.Inf(1)}, len(packets))
	now, err := k.clock()
	if err != nil {
		return BenchReport{}, err
	}
	var report BenchReport
	for _, p := range packets {
		v, err := k.judge(p.frame, rules.Blocklist, now)
		if err != nil {
			return report, err
		}
		report.Cases = append(report.Cases, BenchCase{Name: p.name, Verdict: v.String()})
	}
	for range benchRounds {
		if err := faster(&noop, k.objs.TernNoop, packets[0].frame); err != nil {
			return BenchReport{}, err
		}
		for i, p := range packets {
			if err := faster(&best[i], k.objs.TernFilter, p.frame); err != nil {
				return BenchReport{}, err
			}
		}
	}
	for i, ns := range best {
		report.Cases[i].NS, report.Cases[i].Ratio = ns, ns/noop
	}
	report.NoopNS = noop
	return report, nil
}

// faster measures a round in whole nanoseconds per packet.
func faster(best *float64, p *cebpf.Program, frame []byte) error {
	_, took, err := p.Benchmark(frame, benchRepeat, nil)
	if err != nil {
		return fmt.Errorf("benchmark of the XDP program: %w", err)
	}
	*best = min(*best, float64(took.Nanoseconds()))
	return nil
}
