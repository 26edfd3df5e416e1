package scenario

import (
	"os"

	"github.com/ternmesh/tern/sim"
)

// ParseLink reads the settings of one direction as scenario files write them: {delay: 40ms, loss: 1%}. The error is Problems:
// everything that is wrong with them.
func ParseLink(text string) (l sim.Link, err error) {
	var f linkFile
	c := &collector{lines: make(map[string]int)}
	if decodeAll(c, []byte(text), &f) {
		p := &reader{collector: c, open: os.ReadFile, s: &Scenario{}}
		p.change("", f, sim.Link{}).Apply(&l)
	}
	return l, c.err()
}
