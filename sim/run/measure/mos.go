package measure

import "math"

const (
	// Constants of G.711 with packet loss concealment. No figures for Opus are agreed on, hence a proxy.
	equipment = 0
	robust    = 25.1
)

// MOS is the E-model's mean opinion score (ITU-T G.107, simplified): 1 to 4.5. delay is one-way from mouth to ear in
// milliseconds, jitter buffer included; loss is the share of packets that were lost or came too late; burst is the mean
// length of loss bursts over that of random loss.
//
//	R = 93.2 - Idd - Ie,eff
//	Idd = 0 up to 100 ms, else 25((1+X^6)^(1/6) - 3(1+(X/3)^6)^(1/6) + 2), X = log2(delay/100)
//	Ie,eff = Ie + (95-Ie) Ppl/(Ppl/BurstR + Bpl)
func MOS(delay, loss, burst float64) float64 {
	idd := 0.0
	if delay > 100 {
		x := math.Log2(delay / 100)
		idd = 25 * (math.Pow(1+math.Pow(x, 6), 1.0/6) - 3*math.Pow(1+math.Pow(x/3, 6), 1.0/6) + 2)
	}
	ppl := loss * 100
	r := 93.2 - idd - (equipment + (95-equipment)*ppl/(ppl/max(1, burst)+robust))
	switch {
	case r < 0:
		return 1
	case r > 100:
		return 4.5
	}
	return max(1, 1+0.035*r+r*(r-60)*(100-r)*7e-6)
}
