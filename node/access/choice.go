package access

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/ternmesh/tern/media"
)

// askLayerEvery is how often a keyframe of the wanted layer is asked for until it comes.
const askLayerEvery = 500 * time.Millisecond

// pick says which of media's tracks an outgoing one carries: always the same, or one of a picture's simulcast layers.
type pick struct {
	layers   []int        // tracks of media that are layers of this one; nil: there is one; fixed
	at, want atomic.Int32 // the track that is carried, and the one to carry from its next keyframe on; written by the owner

	ladder ladder // the owner's, as all below
	asked  time.Time
}

// begin sets the first track, and whether it is a layer.
func (t *pick) begin(tracks []media.Track, index int) {
	if tracks[index].RID != "" {
		t.layers = []int{index}
	}
	t.at.Store(int32(index))
	t.want.Store(int32(index))
}

// takes says whether a packet of a track passes. With the first packet of a keyframe of the layer that is wanted, that one
// is carried from then on; changed tells so.
func (t *pick) takes(track int, key bool) (takes, changed bool) {
	at, want := t.at.Load(), t.want.Load()
	switch {
	case t.layers == nil || track == int(at):
		return true, false
	case track != int(want) || !key:
		return false, false
	}
	t.at.Store(want)
	return true, true
}

// choose looks for the best layer, and says whose keyframe is to be asked for; -1 for none.
func (t *pick) choose(now time.Time, rates []float64, s signs) (ask int) {
	want := t.ladder.choose(now, int(t.want.Load()), t.layers, rates, s)
	t.want.Store(int32(want))
	if want == int(t.at.Load()) || now.Sub(t.asked) < askLayerEvery {
		return -1
	}
	t.asked = now
	return want
}

// layered says whether the stream gives a choice.
func (v *viewer) layered() bool {
	return slices.ContainsFunc(v.sub.Tracks(), func(t media.Track) bool { return t.RID != "" })
}

// choose looks for the layer that the viewer's last mile carries, and asks for its keyframe. Called with the shard's lock
// held, which RequestKeyframe does not mind: it never waits.
func (v *viewer) choose(now time.Time, rates []float64) {
	bps, known := v.mile.rate(now)
	trouble := v.mile.took()
	for i, t := range v.tracks {
		if t != nil && t.layers == nil {
			bps -= rates[i] // sound first: the picture gets what it leaves
		}
	}
	for i, t := range v.tracks {
		if t == nil || t.layers == nil || int(t.at.Load()) != i {
			continue
		}
		reports := t.number != 0 && v.crypt != nil // the library writes without numbers
		if ask := t.choose(now, rates, signs{bps: max(bps, leastBps), known: known, reports: reports, trouble: trouble}); ask >= 0 {
			v.askKeyframe(ask)
		}
	}
}

// viewerState is what a viewer's session URL tells to who asks for JSON.
type viewerState struct {
	Estimate uint64       `json:"estimate_bits_per_second"` // what its last mile carries; 0: not known
	Layer    string       `json:"layer,omitempty"`          // the rid that it gets
	Layers   []layerState `json:"layers,omitempty"`         // those of the stream
}

type layerState struct {
	RID  string `json:"rid"`
	Rate uint64 `json:"bits_per_second"` // as measured here
}

// state is a snapshot.
func (v *viewer) state(now time.Time) (out viewerState) {
	out.Estimate = v.estimate.Load()
	u := v.audience.Load()
	if u == nil {
		return out
	}
	rates := u.measured(now)
	for i, t := range v.sub.Tracks() {
		if t.RID == "" {
			continue
		}
		out.Layers = append(out.Layers, layerState{t.RID, uint64(rates[i])})
		if way := v.tracks[i]; way != nil && int(way.at.Load()) == i {
			out.Layer = t.RID
		}
	}
	return out
}
