package scenario

import (
	"encoding/csv"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ternmesh/tern/sim"
)

// Profiles are loss models by name: p and r are the chances per packet of entering and leaving a burst, in which
// everything is lost. wifi to congested have the shape of presets that others use for tests; the rest are judgement.
var Profiles = map[string]Loss{
	"clean":      burst(0.000005, 0.5, 0),
	"transit":    burst(0.0002, 0.33, 0.0002),
	"degraded":   burst(0.004, 0.2, 0.001),
	"wifi":       burst(0.005, 0.5, 0),
	"wifi-lossy": burst(0.025, 0.5, 0),
	"cellular":   burst(0.01, 0.5, 0),
	"satellite":  burst(0.01, 0.333, 0),
	"congested":  burst(0.05, 0.5, 0),
	"no-loss":    {},
}

func burst(p, r, good float64) Loss {
	return Loss{GE: sim.GilbertElliott{P: p, R: r, LossGood: good}}
}

// loss reads a share, {ge: ...}, {profile: NAME} or {trace: FILE}.
func (p *reader) loss(path string, v any) *Loss {
	switch v := v.(type) {
	case nil:
		return nil
	case map[string]any:
		p.known(path, v, "ge", "profile", "trace")
		if len(v) != 1 {
			p.add(path, "give one of ge, profile and trace")
			return nil
		}
		if ge, ok := v["ge"]; ok {
			return p.gilbert(path+".ge", ge)
		}
		if file, ok := v["trace"]; ok {
			return p.trace(path+".trace", fmt.Sprint(file))
		}
		profile, ok := v["profile"]
		if !ok {
			return nil // an unknown key, which has been reported
		}
		name, _ := profile.(string)
		l, ok := Profiles[name]
		if !ok {
			p.add(path+".profile", "%q is not one of %s", name, strings.Join(slices.Sorted(maps.Keys(Profiles)), ", "))
		}
		return &l
	default:
		share, err := parseShare(fmt.Sprint(v))
		p.check(path, err)
		return &Loss{Share: share}
	}
}

// gilbert reads {p, r, bad, good}: probabilities per packet, without a unit.
func (p *reader) gilbert(path string, v any) *Loss {
	m, ok := v.(map[string]any)
	if !ok {
		p.add(path, "write {p: 0.004, r: 0.2}: chances per packet of entering and leaving a burst")
		return nil
	}
	p.known(path, m, "p", "r", "bad", "good")
	var l Loss
	for key, to := range map[string]*float64{"p": &l.GE.P, "r": &l.GE.R, "bad": &l.GE.LossBad, "good": &l.GE.LossGood} {
		raw, stated := m[key]
		if !stated {
			continue
		}
		x, err := strconv.ParseFloat(fmt.Sprint(raw), 64)
		if err != nil || !(x >= 0 && x <= 1) {
			p.add(path+"."+key, "%v is not a probability between 0 and 1 (without a unit)", raw)
		}
		*to = x
	}
	if l.GE.P == 0 || l.GE.R == 0 {
		p.add(path, "p and r are needed, and greater than 0")
	}
	return &l
}

// maxTrace bounds the steps of a loss trace: each packet looks through them.
const maxTrace = 10_000

// trace reads ms,loss_pct: how long each step lasts, and what is lost meanwhile. It repeats.
func (p *reader) trace(path, name string) *Loss {
	data, err := p.open(name)
	if err != nil {
		p.add(path, "%v", err)
		return nil
	}
	rows, err := csv.NewReader(strings.NewReader(string(data))).ReadAll()
	if err != nil || len(rows) < 2 || len(rows) > maxTrace || strings.Join(rows[0], ",") != "ms,loss_pct" {
		p.add(path, "%s is not CSV with the header ms,loss_pct and 1 to %d rows%s", name, maxTrace, because(err))
		return nil
	}
	var l Loss
	for i, row := range rows[1:] {
		ms, err1 := strconv.ParseFloat(row[0], 64)
		pct, err2 := strconv.ParseFloat(row[1], 64)
		if err1 != nil || err2 != nil || !(ms > 0 && ms < 1e9) || !(pct >= 0 && pct <= 100) {
			p.add(path, "%s, line %d: want a time in milliseconds and a loss of 0 to 100 percent", name, i+2)
			continue
		}
		l.Trace = append(l.Trace, sim.LossStep{For: time.Duration(ms * float64(time.Millisecond)), Loss: pct / 100})
	}
	return &l
}

// because is the end of a sentence with an error, or nothing.
func because(err error) string {
	if err == nil {
		return ""
	}
	return ": " + err.Error()
}
