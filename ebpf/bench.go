package ebpf

// BenchCase is what the kernel takes for one kind of packet.
type BenchCase struct {
	Name    string  `json:"name"`
	NS      float64 `json:"ns"`    // per packet, the cost of the test run included
	Ratio   float64 `json:"ratio"` // against a program that does nothing, in the same run
	Verdict string  `json:"verdict"`
}

// BenchReport is the result of Bench.
type BenchReport struct {
	NoopNS  float64     `json:"noop_ns"`
	Cases   []BenchCase `json:"cases"`
	Relayed BenchCase   `json:"relayed"` // a path frame that the kernel sends on, with MAC and rewrite
}
