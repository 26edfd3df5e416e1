package ebpf

import (
	"fmt"
	"math"
)

// judgeAt is the time of an offline verdict: any, since no bucket has been used.
const judgeAt = ufragEpochNS

// Judge says what the filter would do with one Ethernet frame under rules: by the twin (ModeGo), or by the kernel's
// program in a test run that attaches nothing (ModeXDP; needs privileges and a frame of 14 to about 3,500 bytes).
// An error that wraps ErrUnsupported means that this machine cannot run the program.
func Judge(rules Rules, mode string, packet []byte) (Verdict, error) {
	t, err := Compile(rules)
	if err != nil {
		return Verdict{}, err
	}
	g := newGuard(DefaultLimits())
	g.know(rules)
	switch mode {
	case ModeGo:
		return t.frame(packet, g, judgeAt), nil
	case ModeXDP:
		return judgeXDP(t, g, packet, judgeAt)
	}
	return Verdict{}, fmt.Errorf("mode is %q, not xdp or go", mode)
}

// know takes the members and clients of a rules file.
func (g *guard) know(r Rules) {
	for _, a := range r.Members {
		g.addPeer(a.Unmap().WithZone(""))
	}
	for _, a := range r.Quarantined {
		g.build(subscriber(a.Unmap().WithZone("")), &wall{until: math.MaxUint64})
	}
	for _, a := range r.Admitted {
		g.admit("rules", plain(a), judgeAt)
	}
}
