package lease

import "time"

// Verdict is what a lease file is worth at a time, on a machine.
type Verdict string

// The verdicts in the order in which they are looked for; the first that holds counts.
const (
	NoLease       Verdict = "NO_LEASE"       // there is no file: the node must enrol
	BadLease      Verdict = "BAD_LEASE"      // not readable, not signed by an authority of the mesh, or edited
	WrongMachine  Verdict = "WRONG_MACHINE"  // of another machine; that one is not affected
	VoidClock     Verdict = "VOID_CLOCK"     // the clock went back once; only a fresh lease helps
	ClockRollback Verdict = "CLOCK_ROLLBACK" // the clock goes back now: the lease becomes void
	Expired       Verdict = "EXPIRED"        // its time is over
	ValidWarn     Verdict = "VALID_WARN"     // good, but less than five days are left
	Valid         Verdict = "VALID"
)

// warnBelow is what must be left for a lease that is renewed daily to be without worry.
const warnBelow = 5 * 24 * time.Hour

// Good says whether a node may start and take clients.
func (v Verdict) Good() bool { return v == Valid || v == ValidWarn }

// Do says what an operator does about a verdict.
func (v Verdict) Do() string {
	switch v {
	case NoLease, BadLease:
		return "enrol this machine: `tern enrol`"
	case WrongMachine:
		return "the files are another machine's: enrol this one with its own invitation: `tern enrol`"
	case VoidClock, ClockRollback:
		return "put the clock right (NTP) and renew: `tern lease renew`"
	case Expired:
		return "no authority has renewed it for days: reach one of `authorities`, then `tern lease renew`"
	case ValidWarn:
		return "it is renewed daily unless the authorities fail: `tern status` and the log have their answers"
	}
	return ""
}

// Machine is what a lease is held against.
type Machine struct {
	Mesh, Node  string
	Fingerprint string
	Key         []byte // of the seal
	Issuer      Issuer
	Tolerance   time.Duration // how far the clock may go back without meaning anything (NTP steps); at most 120 s
	// AtLeast is the earliest that it can be, Unix seconds, by a clock that is not set: see Reckon. 0: that is not known.
	AtLeast int64
}

// Reckon is what the wall clock must show at least, when it showed wall and a monotonic clock has counted elapsed since: a clock
// that is held still, or set back by less than a look's interval, is found by it.
func Reckon(wall time.Time, elapsed time.Duration) int64 { return wall.Round(0).Add(elapsed).Unix() }

// Judge says what a file is worth now; nil is no file. The lease is zero for NoLease and BadLease; the error says what is bad.
func (m Machine) Judge(file []byte, now time.Time) (Verdict, Lease, error) {
	if file == nil {
		return NoLease, Lease{}, nil
	}
	l, err := Decode(file)
	if err == nil {
		err = l.Check(m.Mesh, m.Node, m.Issuer)
	}
	if err != nil {
		return BadLease, Lease{}, err
	}
	if l.Grant.Fingerprint != m.Fingerprint {
		return WrongMachine, l, nil
	}
	if !l.Sealed(m.Key) {
		return BadLease, Lease{}, errEdited
	}
	return m.judgeTime(l, now), l, nil
}

// judgeTime is the second half of the table.
func (m Machine) judgeTime(l Lease, now time.Time) Verdict {
	left := l.Left(now)
	switch {
	case l.Void:
		return VoidClock
	case now.Add(m.Tolerance).Unix() < max(l.Grant.Issued, l.LastSeen, m.AtLeast):
		return ClockRollback
	case left <= 0:
		return Expired
	case left < warnBelow:
		return ValidWarn
	}
	return Valid
}

// Left is the time until the lease ends, negative after.
func (l Lease) Left(now time.Time) time.Duration { return time.Unix(l.Grant.Expires, 0).Sub(now) }

// Observe is the file as it must be kept after a look, sealed: void after a rollback, else with last_seen moved on while the
// lease is good. changed is false where it stays as it is.
func (m Machine) Observe(l Lease, v Verdict, now time.Time) (kept Lease, changed bool) {
	switch {
	case v == ClockRollback:
		l.Void = true
	case v.Good() && now.Unix() > l.LastSeen:
		l.LastSeen = now.Unix()
	default:
		return l, false
	}
	return l.Seal(m.Key), true
}
