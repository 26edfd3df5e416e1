package ebpf

import "testing"

// The figure per case is a ratio against a program that does nothing.
func BenchmarkXDP(b *testing.B) {
	rules, packets := sampleCases()
	k, _ := needKernel(b, rules)
	report, err := k.bench(rules, packets)
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range report.Cases {
		b.Run(c.Name, func(b *testing.B) {
			b.ReportMetric(c.NS, "ns/packet")
			b.ReportMetric(c.Ratio, "x_noop")
			b.ReportMetric(0, "ns/op")
		})
	}
}
