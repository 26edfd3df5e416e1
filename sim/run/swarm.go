package run

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"
)

// Swarms are scenarios drawn from a seed: the same nodes, and faults of every kind one after another.
var swarms = map[string]struct {
	about    string
	duration time.Duration
	every    time.Duration // mean time from the end of a fault to the next
	packets  int           // a second, of each stream
}{
	"swarm": {"Ten minutes of faults of every kind, drawn from the seed.", 10 * time.Minute, 15 * time.Second, 50},
	"day":   {"A day of a small mesh, with faults of every kind drawn from the seed.", 24 * time.Hour, 10 * time.Minute, 10},
}

const (
	// longestFault and medianFault shape how long faults last: most are short, a few are long.
	longestFault = 2 * time.Minute
	medianFault  = 5 * time.Second
)

// swarmText is a scenario file drawn from a seed.
func swarmText(name string, seed uint64) string {
	s := swarms[name]
	draw := rand.New(rand.NewPCG(seed, 0x7465726e))
	var b strings.Builder
	fmt.Fprintf(&b, "name: %s\nabout: %q\nduration: %v\nwarmup: 5s\nseed: %d\n", name, s.about, s.duration, max(1, seed))
	b.WriteString(`nodes:
  fra: {region: eu, city: Frankfurt, provider: alpha}
  lhr: {region: eu, city: London, provider: beta}
  iad: {region: us-east, city: Ashburn, provider: alpha}
  sfo: {region: us-west, city: San Francisco, provider: beta}
  sin: {region: ap, city: Singapore, provider: alpha}
  nrt: {region: ap-north, city: Tokyo, provider: beta}
links:
  matrix: world.csv
  default: {jitter: 500us, loss: {profile: transit}}
  pairs:
    - {from: sfo, to: nrt, both: true, shared_risk: [pacific-cable]}
    - {from: sfo, to: sin, both: true, shared_risk: [pacific-cable]}
streams:
`)
	for _, pair := range [][2]string{{"fra", "nrt"}, {"iad", "sin"}, {"sfo", "lhr"}} {
		fmt.Fprintf(&b, "  - {name: %s-%s, from: %s, to: [%s], kind: audio, packets_per_second: %d, size: 160}\n", pair[0], pair[1], pair[0], pair[1], s.packets)
	}
	b.WriteString("events:\n")
	exponential := func(mean time.Duration) time.Duration { return time.Duration(draw.ExpFloat64() * float64(mean)) }
	for at := 10*time.Second + exponential(s.every); at < s.duration-time.Minute; {
		lasts := min(longestFault, time.Duration(float64(medianFault)*math.Exp(draw.NormFloat64()))).Round(100 * time.Millisecond)
		lasts = max(lasts, 500*time.Millisecond)
		fmt.Fprintf(&b, "  - {at: %v, for: %v, %s}\n", at.Round(time.Millisecond), lasts, fault(draw))
		// A node needs seconds to come back; another fault before that would be a double one.
		at += lasts + 5*time.Second + exponential(s.every)
	}
	return b.String()
}

// fault draws what happens: brownouts most, about a third of the rest shared by several links.
func fault(draw *rand.Rand) string {
	nodes := []string{"fra", "lhr", "iad", "sfo", "sin", "nrt"}
	draw.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	link := fmt.Sprintf("link: [%s, %s]", nodes[0], nodes[1])
	switch n := draw.IntN(100); {
	case n < 35:
		return fmt.Sprintf("%s, loss: %.1f%%", link, 1+4*draw.Float64())
	case n < 45:
		return fmt.Sprintf("%s, one_way: true, loss: %d%%", link, 10+draw.IntN(60))
	case n < 55:
		return link + ", action: down"
	case n < 62:
		return fmt.Sprintf("%s, add_delay: %dms, jitter: {mean: %dms, model: pareto}", link, 20+draw.IntN(200), 1+draw.IntN(20))
	case n < 72:
		return fmt.Sprintf("node: %s, action: kill", nodes[0])
	case n < 77:
		return fmt.Sprintf("node: %s, action: restart", nodes[0])
	case n < 82:
		return fmt.Sprintf("node: %s, add_delay: %dms, loss: %d%%", nodes[0], 20+draw.IntN(100), 1+draw.IntN(5))
	case n < 88:
		return "shared_risk: pacific-cable, action: down"
	case n < 92:
		return fmt.Sprintf("shared_risk: %s, action: down", []string{"alpha", "beta"}[draw.IntN(2)])
	case n < 94:
		return fmt.Sprintf("region: %s, action: down", []string{"eu", "us-east", "ap"}[draw.IntN(3)])
	case n < 96:
		return fmt.Sprintf("node: %s, flood: {packets_per_second: 1000}", nodes[0])
	case n < 98:
		return fmt.Sprintf("node: %s, action: skew, by: %dms", nodes[0], draw.IntN(12000)-6000)
	default:
		return fmt.Sprintf("partition: [[%s], [%s]]", strings.Join(nodes[:3], ", "), strings.Join(nodes[3:], ", "))
	}
}
