package demo

import (
	"net/netip"
	"time"

	"github.com/ternmesh/tern/sim"
)

// city is one node's place. Node is its name in the mesh, region its region.
type city struct {
	node, name, region string
	lat, lon           float64
	voter              bool
}

// cities are far apart, and every two of them have at least three paths of similar length. The first three vote.
var cities = []city{
	{node: "frankfurt", name: "Frankfurt", region: "eu", lat: 50.1109, lon: 8.6821, voter: true},
	{node: "ashburn", name: "Ashburn", region: "us-east", lat: 39.0458, lon: -77.4874, voter: true},
	{node: "singapore", name: "Singapore", region: "ap-southeast", lat: 1.3521, lon: 103.8198, voter: true},
	{node: "tokyo", name: "Tokyo", region: "ap-northeast", lat: 35.6762, lon: 139.6503},
	{node: "sao-paulo", name: "São Paulo", region: "sa-east", lat: -23.5558, lon: -46.6396},
	{node: "sydney", name: "Sydney", region: "ap-south", lat: -33.8688, lon: 151.2093},
}

// roundTripMS are round trips between cloud regions in these cities, row to column in the order of cities: one-year
// medians measured by cloudping.co (captured 2025-05-29 by oaustegard/oaustegard.github.io, web-utilities/aws-ping-p50-1y.json),
// rounded to a tenth. They are of a provider's backbone, so better than the public Internet.
var roundTripMS = [][]float64{
	{0, 92.6, 160.6, 227.1, 204.0, 251.5},
	{93.1, 0, 219.1, 149.4, 115.2, 199.7},
	{161.3, 218.6, 0, 70.7, 327.4, 94.7},
	{227.6, 149.2, 70.5, 0, 257.4, 107.4},
	{204.9, 115.4, 327.4, 258.1, 0, 312.2},
	{251.8, 199.7, 94.8, 106.3, 311.9, 0},
}

// publishAt and watchAt are the pair that the headless run uses and the page suggests: 114 ms direct, 116 ms by way of
// Singapore, 121 ms by way of Ashburn.
const (
	publishAt = "frankfurt"
	watchAt   = "tokyo"
)

const (
	// normalLoss is lost on every link and direction, each packet on its own.
	normalLoss = 0.001
	// lossyLoss is what the button adds to every path.
	lossyLoss = 0.05
	// meshPort is the port of every emulated host.
	meshPort = 7900
	// backboneJitter is the mean queueing delay of a link; jitterShare adds what longer routes have more of.
	backboneJitter = 300 * time.Microsecond
	jitterShare    = 0.01
)

// meshAddr is the emulated address of city i.
func meshAddr(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 7, byte(i + 1), 1}), meshPort)
}

// wideArea connects hosts named after the cities by links of half the round trip.
func wideArea(n *sim.Network) {
	for i, from := range cities {
		for j, to := range cities {
			if i != j {
				n.SetLink(from.node, to.node, wanLink(i, j))
			}
		}
	}
}

func wanLink(i, j int) sim.Link {
	delay := time.Duration(roundTripMS[i][j] / 2 * float64(time.Millisecond))
	jitter := backboneJitter + time.Duration(float64(delay)*jitterShare)
	// The mean of the jitter belongs to the measured round trip.
	return sim.Link{Delay: delay - jitter, Jitter: jitter, Loss: normalLoss}
}

// cityOf finds a city by its node's name.
func cityOf(node string) (city, bool) {
	for _, c := range cities {
		if c.node == node {
			return c, true
		}
	}
	return city{}, false
}

// cityName is the name for people; unknown nodes keep their own.
func cityName(node string) string {
	if c, ok := cityOf(node); ok {
		return c.name
	}
	return node
}
