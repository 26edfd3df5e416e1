package lease

import "time"

// Phase is where an authority stands towards its root.
type Phase string

// The phases. Only Active and Grace serve leases.
//
//	Start ──listed, contract runs──▶ Active ──contract over──▶ Grace ──three months over, root asked once──▶ Stopped
//	  │  └──listed, in the three months──▶ Grace ──renewed──▶ Active
//	  ├──not listed──▶ Refused
//	  └──unreachable──▶ Unverified ──root answers──▶ as from Start
const (
	PhaseStart      Phase = "A_START"
	PhaseUnverified Phase = "A_UNVERIFIED"
	PhaseActive     Phase = "A_ACTIVE"
	PhaseGrace      Phase = "A_GRACE"
	PhaseStopped    Phase = "A_STOPPED" // the process ends
	PhaseRefused    Phase = "A_REFUSED" // the process ends
)

// graceMonths is how long an authority goes on after its contract's end.
const graceMonths = 3

// Answer is what an authority hears from its root.
type Answer struct {
	Reached     bool
	Listed      bool
	ContractEnd time.Time
}

// Authority is an authority's right to serve. The zero value is Start.
type Authority struct {
	Phase       Phase
	ContractEnd time.Time
}

// Serves says whether leases may be given.
func (a Authority) Serves() bool { return a.Phase == PhaseActive || a.Phase == PhaseGrace }

// Ended says that the process must end.
func (a Authority) Ended() bool { return a.Phase == PhaseStopped || a.Phase == PhaseRefused }

// ContractUntil is the end of the contract whose three months are over at span, at the latest.
func ContractUntil(span time.Time) time.Time { return addMonths(span, -graceMonths) }

// SpanEnd is when the three months after the contract are over.
func (a Authority) SpanEnd() time.Time { return addMonths(a.ContractEnd, graceMonths) }

// Heard is the authority after an answer of its root, or the lack of one. While the root is not reached, one that serves goes on
// until its span is over.
func (a Authority) Heard(now time.Time, answer Answer) Authority {
	switch {
	case a.Ended():
		return a
	case answer.Reached && !answer.Listed:
		return Authority{Phase: PhaseRefused}
	case answer.Reached:
		a.ContractEnd = answer.ContractEnd
	case !a.Serves():
		return Authority{Phase: PhaseUnverified}
	}
	a.Phase = a.phaseAt(now)
	return a
}

// Tick is the authority as time passes. ask says that the root must be asked before the phase it returns may be left for
// Stopped: the span is over.
func (a Authority) Tick(now time.Time) (next Authority, ask bool) {
	if !a.Serves() {
		return a, false
	}
	phase := a.phaseAt(now)
	if phase == PhaseStopped {
		return a, true // Heard decides, with an answer or without
	}
	a.Phase = phase
	return a, false
}

func (a Authority) phaseAt(now time.Time) Phase {
	switch {
	case !now.After(a.ContractEnd):
		return PhaseActive
	case !now.After(a.SpanEnd()):
		return PhaseGrace
	}
	return PhaseStopped
}

// Term is until when a lease given now may last: seven days, and never longer than the authority itself may serve.
func (a Authority) Term(now time.Time) time.Time {
	end := now.Add(Term)
	if span := a.SpanEnd(); span.Before(end) {
		return span
	}
	return end
}

// addMonths adds calendar months; a day that the month does not have becomes its last (30 November + 3 months is 28 February).
func addMonths(t time.Time, months int) time.Time {
	out := t.AddDate(0, months, 0)
	if out.Day() != t.Day() {
		out = out.AddDate(0, 0, -out.Day())
	}
	return out
}
