package mesh

import (
	"encoding/binary"
	"fmt"

	"github.com/ternmesh/tern/mesh/linkstate"
)

const (
	probeRequest = 0x11 // version 1, request
	probeReply   = 0x12 // version 1, reply
	probeBytes   = 21
)

// probe is one link probe. Both kinds carry what their sender has received of the other's requests.
type probe struct {
	kind        byte
	epoch       uint32 // the sender's run
	seq         uint32 // request: its number, from 1; reply: the number of the request that it answers
	heard       uint32 // the run of the other that high and count speak of; 0: nothing heard yet
	high, count uint32 // highest number of the other's requests received, and how many
}

func (p probe) encode() []byte {
	b := make([]byte, 0, probeBytes)
	b = append(b, p.kind)
	for _, v := range [...]uint32{p.epoch, p.seq, p.heard, p.high, p.count} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

// decodeProbe is the inverse of encode and refuses what no node would send.
func decodeProbe(b []byte) (probe, error) {
	if len(b) != probeBytes {
		return probe{}, fmt.Errorf("probe of %d bytes; want %d", len(b), probeBytes)
	}
	v := func(i int) uint32 { return binary.BigEndian.Uint32(b[1+4*i:]) }
	p := probe{kind: b[0], epoch: v(0), seq: v(1), heard: v(2), high: v(3), count: v(4)}
	if p.kind != probeRequest && p.kind != probeReply {
		return probe{}, fmt.Errorf("probe kind %#x", p.kind)
	}
	if p.epoch == 0 || p.seq == 0 || p.count > p.high || p.heard == 0 && p.high > 0 {
		return probe{}, fmt.Errorf("%w: probe %+v", linkstate.ErrAbsurd, p)
	}
	return p, nil
}
