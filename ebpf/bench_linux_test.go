package ebpf

import "testing"

// The figure per case is a ratio against a program that does nothing.
func BenchmarkXDP(b *testing.B) {
	runnable(b)
	k, rules, packets, err := openBench()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { k.close() })
	report, err := k.bench(rules, packets)
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range report.Cases {
		b.Run(c.Name, func(b *testing.B) {
			b.ReportMetric(c.NS, "ns/packet")
			b.ReportMetric(c.Ratio, "x_noop")
			b.ReportMetric(0, "ns/op")
			b.Log(c.Verdict)
		})
	}
}

func TestSampleCasesHaveTheVerdictsOfTheirRows(t *testing.T) {
	runnable(t)
	k, rules, packets, err := openBench()
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	want := map[string]string{
		rowAdmitted: "pass rtp ok", rowNoise: "drop rtp not_admitted", rowPath: "pass path ok",
		"stun with a ufrag, ipv4": "pass stun ufrag", "stranger's quic, ipv6": "pass quic stranger",
	}
	for _, p := range packets {
		now, err := k.clock()
		if err != nil {
			t.Fatal(err)
		}
		v, err := k.judge(p.frame, rules.Blocklist, now)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{p.row, p.name} {
			if w, ok := want[name]; ok && v.String() != w {
				t.Errorf("%s: %q, want %q", p.name, v, w)
			}
		}
		if blocked := v.Reason == ReasonBlocklist; p.row == rowBlocked && !blocked {
			t.Errorf("%s: %v", p.name, v)
		}
	}
}
