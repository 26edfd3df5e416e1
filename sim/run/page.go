package run

import (
	"time"

	"github.com/ternmesh/tern/sim/run/measure"
	"github.com/ternmesh/tern/sim/run/scenario"
)

// pageData is what the HTML shows beyond the JSON.
type pageData struct {
	scenario *scenario.Scenario
	streams  []pageStream
}

type pageStream struct {
	report StreamReport
	result measure.Result
	step   time.Duration
	track  *sessionTrack
}
