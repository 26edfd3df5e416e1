package ebpf

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	cebpf "github.com/cilium/ebpf"
)

const (
	benchRounds = 25
	benchRepeat = 40_000 // packets in a round
	xdpTX       = 3
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
	if err == nil {
		err = k.benchRelay(&all)
	}
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
	report.Relayed = all.Relayed
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

// benchRelay adds the row of a path frame over two relays of which this node is the first. The program that is measured makes
// the frame afterwards what it was, which counts with the rest.
func (k *kernel) benchRelay(report *BenchReport) error {
	const self, source, next = 3, 1, 4
	key, unixMS := [16]byte{1, 2, 3}, uint64(time.Now().UnixMilli())
	frame := sample{src: netip.MustParseAddr("198.18.3.4"), port: 7400, payload: sampleRelayed(key, self, source, next, unixMS, 1100)}.frame()
	now, err := k.clock()
	if err != nil {
		return err
	}
	onward := Onward{
		OnwardKey: OnwardKey{Source: source, Before: source, Next: next, Fence: sampleFence}, Keys: [3][16]byte{key, key, key},
		From: netip.MustParseAddr("192.0.2.1"), To: netip.MustParseAddrPort("192.0.2.2:7400"), Interface: 1, // test runs come from there
	}
	err = errors.Join(k.setRelaying(self, 0, now-k.shift, unixMS), k.putOnward(onward, 0, now-k.shift+uint64(time.Minute)))
	noop, relayed := math.Inf(1), math.Inf(1)
	for range benchRounds {
		err = errors.Join(err, faster(&noop, k.objs.TernNoop, frame), faster(&relayed, k.objs.TernRelay, frame))
	}
	if verdict, runErr := k.objs.TernRelay.Run(&cebpf.RunOptions{Data: frame}); runErr != nil || verdict != xdpTX {
		err = errors.Join(err, runErr, fmt.Errorf("the frame of the benchmark is not relayed (%d)", verdict))
	}
	report.Relayed = BenchCase{Name: rowRelay, NS: relayed, Ratio: relayed / noop, Verdict: "relayed"}
	return err
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
