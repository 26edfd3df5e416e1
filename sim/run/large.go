package run

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// large is the name of the scenario that largeText writes.
const large = "large"

const (
	largeAbout = "Two hundred nodes in eleven cities: a brownout, a death and a cut link while three streams cross the world. Takes minutes of processor time and 3 to 8 GB."
	largeNodes = 200
)

// largeCities are those of world.csv, with their regions.
var largeCities = [][2]string{
	{"Frankfurt", "eu"}, {"Ashburn", "us-east"}, {"Singapore", "ap"}, {"London", "eu"}, {"San Francisco", "us-west"}, {"Tokyo", "ap-north"},
	{"Sao Paulo", "sa"}, {"Johannesburg", "af"}, {"Mumbai", "in"}, {"Dallas", "us-south"}, {"Sydney", "oc"},
}

// largeText is a scenario file of a large mesh; the seed draws between which nodes the streams run.
func largeText(seed uint64) string {
	draw := rand.New(rand.NewPCG(seed, 0x6c61726765))
	var b strings.Builder
	fmt.Fprintf(&b, "name: %s\nabout: %q\nduration: 20s\nwarmup: 2s\nseed: %d\nnodes:\n", large, largeAbout, max(1, seed))
	name := func(i int) string { return fmt.Sprintf("n%03d", i) }
	for i := range largeNodes {
		city := largeCities[i%len(largeCities)]
		fmt.Fprintf(&b, "  %s: {region: %s, city: %s, provider: %s}\n", name(i), city[1], city[0], []string{"alpha", "beta", "gamma"}[i/len(largeCities)%3])
	}
	b.WriteString("links:\n  matrix: world.csv\n  default: {delay: 1ms, jitter: 500us, loss: 0.05%}\nstreams:\n")
	ends := draw.Perm(largeNodes)
	for i := range 3 {
		fmt.Fprintf(&b, "  - {name: s%d, from: %s, to: [%s], packets_per_second: 100, app: demo}\n", i, name(ends[2*i]), name(ends[2*i+1]))
	}
	fmt.Fprintf(&b, "events:\n  - {at: 5s, for: 8s, link: [%s, %s], loss: 5%%}\n  - {at: 7s, node: %s, action: kill}\n  - {at: 9s, for: 6s, link: [%s, %s], action: down}\n",
		name(ends[0]), name(ends[1]), name(ends[6]), name(ends[2]), name(ends[3]))
	return b.String()
}
