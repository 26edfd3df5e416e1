package mesh

import (
	"encoding/binary"
	"fmt"

	"github.com/ternmesh/tern/mesh/linkstate"
)

const (
	probeRequest = 0x11 // version 1, request
	probeReply   = 0x12 // version 1, reply
	probeCounts  = 0x02 // added to either: counts follow
	probeTransit = 0x04 // and to that: behind them, how long frames take
	probePassing = 0x08 // and to that: how long those of others took to get to its sender
	probeBytes   = 21
	countBytes   = 24
	transitBytes = 8
	passingBytes = 13

	probeCounted = probeBytes + countBytes
	probeTimed   = probeCounted + transitBytes
)

// probe is one link probe. Both kinds carry what their sender has received of the other's requests.
type probe struct {
	kind        byte
	epoch       uint32 // the sender's run
	seq         uint32 // request: its number, from 1; reply: the number of the request that it answers
	heard       uint32 // the run of the other that high and count speak of; 0: nothing heard yet
	high, count uint32 // highest number of the other's requests received, and how many
	counted     bool   // counts travel with it
	counts
	timed   bool // only with counted: what frames took travels with it
	transit      // at: zero if none came lately, else anything
	relays  bool // only with timed: what frames of others took travels with it
	passing passing
}

func (p probe) encode() []byte {
	b := make([]byte, 0, probeBytes+countBytes+transitBytes+passingBytes)
	kind := p.kind
	if p.counted {
		kind += probeCounts
	}
	if p.timed {
		kind += probeTransit
	}
	if p.relays {
		kind += probePassing
	}
	b = append(b, kind)
	for _, v := range [...]uint32{p.epoch, p.seq, p.heard, p.high, p.count} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	if p.counted {
		for _, v := range [...]uint64{p.counts.sent, p.echo.sent, p.echo.arrived} {
			b = binary.BigEndian.AppendUint64(b, v)
		}
	}
	if p.timed {
		b = p.transit.append(b)
	}
	if p.relays {
		b = p.passing.append(b)
	}
	return b
}

// decodeProbe is the inverse of encode and refuses what no node would send.
func decodeProbe(b []byte) (probe, error) {
	switch len(b) {
	case probeBytes, probeCounted, probeTimed, probeTimed + passingBytes:
	default:
		return probe{}, fmt.Errorf("probe of %d bytes; want %d, %d, %d or %d", len(b), probeBytes, probeCounted, probeTimed, probeTimed+passingBytes)
	}
	v := func(i int) uint32 { return binary.BigEndian.Uint32(b[1+4*i:]) }
	p := probe{kind: b[0], epoch: v(0), seq: v(1), heard: v(2), high: v(3), count: v(4), counted: len(b) > probeBytes, timed: len(b) > probeCounted}
	if p.counted {
		w := func(i int) uint64 { return binary.BigEndian.Uint64(b[probeBytes+8*i:]) }
		p.kind -= probeCounts
		p.counts = counts{sent: w(0), echo: frames{w(1), w(2)}}
	}
	if p.timed {
		p.kind -= probeTransit
		p.transit = parseTransit(b[probeCounted:])
	}
	if p.relays = len(b) > probeTimed; p.relays {
		p.kind -= probePassing
		p.passing = parsePassing(b[probeTimed:])
	}
	if p.kind != probeRequest && p.kind != probeReply {
		return probe{}, fmt.Errorf("probe kind %#x", b[0])
	}
	if p.epoch == 0 || p.seq == 0 || p.count > p.high || p.heard == 0 && p.high > 0 {
		return probe{}, fmt.Errorf("%w: probe %+v", linkstate.ErrAbsurd, p)
	}
	return p, nil
}
