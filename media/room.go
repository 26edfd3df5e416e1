package media

import "math"

// fitter is a Link that knows which share of what is sent on it fits.
type fitter interface{ Fit() float64 }

// Fit says which share of the stream the mesh can carry at present: below 1, somebody upstream of all its receivers should
// send less; infinite while nothing limits it. It is that of the receiver with the most room: a peer behind a narrow path
// does not make the picture worse for the others (simulcast layers are for that), and viewers at this node always have room.
func (p *Publication) Fit() float64 {
	most := 0.0
	outlets := load(&p.out.list)
	for _, o := range outlets {
		f, ok := o.link.(fitter)
		if o.supply != nil || !ok {
			return math.Inf(1)
		}
		most = max(most, f.Fit())
	}
	if len(outlets) == 0 {
		return math.Inf(1)
	}
	return most
}
