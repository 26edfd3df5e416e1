package run

import (
	"bytes"
	"runtime/pprof"

	"github.com/google/pprof/profile"
)

// cpuProfile samples which node the processors work for: goroutines inherit the label of the node that started them.
// What runs on behalf of nobody (the emulated network, the collector) is not attributed.
type cpuProfile struct {
	buf     bytes.Buffer
	running bool
}

// startProfile begins to sample, unless somebody else profiles the process already; then no CPU is reported.
func startProfile() *cpuProfile {
	p := &cpuProfile{}
	p.running = pprof.StartCPUProfile(&p.buf) == nil
	return p
}

// stop returns CPU seconds by node; nil if nothing was sampled.
func (p *cpuProfile) stop() map[string]float64 {
	if !p.running {
		return nil
	}
	pprof.StopCPUProfile()
	parsed, err := profile.Parse(&p.buf)
	if err != nil {
		return nil
	}
	out := make(map[string]float64)
	for _, s := range parsed.Sample {
		if label := s.Label[nodeLabel]; len(label) > 0 && len(s.Value) > 1 {
			out[label[0]] += float64(s.Value[1]) / 1e9 // the second value is nanoseconds
		}
	}
	return out
}

func (r *Report) addCPU(seconds map[string]float64) {
	for i := range r.Nodes {
		r.Nodes[i].CPUSeconds = seconds[r.Nodes[i].Name]
	}
}
