package enrol

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ternmesh/tern/control/lease"
	"github.com/ternmesh/tern/mesh/identity"
)

const (
	lookEvery = time.Minute
	looksMost = 60 // in a lease's time
	// writeEvery is how often a good look is written down, besides the first and the last: between two of them the process
	// itself remembers the time.
	writeEvery = 10 * time.Minute
	// bootSpread bounds the wait before the first renewal after a start: a site that gets its power back asks not all at once.
	bootSpread = 30 * time.Second
	// sayAgain is how often a lasting trouble is said.
	sayAgain = time.Hour
)

// State is what a keeper knows; the times of the lease are zero without a readable one.
type State struct {
	Verdict         lease.Verdict
	Why             string // what is bad about a BAD_LEASE
	Issuer          string
	Issued, Expires time.Time
	Alarm           lease.Alarm // of the last round of renewal
	Trouble         string      // what the authorities answered in it, or why the file was not written
	Renewed, Failed uint64      // rounds since the start
	Warned          uint64      // looks that found less than five days left
}

// Keeper keeps a node's lease. New makes none: fill the fields, then Run.
type Keeper struct {
	File        File
	Client      Client
	Trust       identity.Trust
	Authorities []string // HOST:PORT, asked in this order
	// Renewed takes a fresh lease's certificate into use; its error is said and changes nothing.
	Renewed func(lease.Lease) error
	// Judged is told every verdict that differs from the one before; may be nil.
	Judged func(lease.Verdict)
	Logger *slog.Logger
	// Now is the wall clock that the lease is held against; nil: time.Now. A simulation's may be wrong.
	Now func() time.Time
	// Every is how often the lease is looked at; zero: every minute. One for less than an hour is looked at more often.
	Every time.Duration

	state atomic.Pointer[State]

	// owned by Run, and by Start before
	now      State
	last     time.Time // the last look, if the lease was good; its monotonic part counts
	due      time.Time // the next renewal
	nonce    string    // of the lease in use
	granted  time.Duration
	failures int
	said     map[string]time.Time
}

// Start looks at the file once, before Run: by that verdict a node starts or does not. It makes no network call.
func (k *Keeper) Start() (lease.Verdict, lease.Lease, error) {
	k.Every = cmp.Or(k.Every, lookEvery)
	if k.Now == nil {
		k.Now = time.Now
	}
	k.Client.Now = k.Now
	k.said = make(map[string]time.Time)
	v, l, why := k.look(0)
	k.nonce = l.Grant.Nonce
	k.due = time.Now().Add(rand.N(min(bootSpread, max(k.granted/looksMost, 1))))
	return v, l, why
}

// State is the newest snapshot, after Start.
func (k *Keeper) State() State {
	if s := k.state.Load(); s != nil {
		return *s
	}
	return State{}
}

// Run looks and renews until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	for {
		_, l, _ := k.look(writeEvery)
		k.use(l)
		if !time.Now().Before(k.due) {
			k.renew(ctx)
			_, l, _ = k.look(writeEvery)
			k.use(l)
		}
		pause := min(k.Every, max(k.granted/looksMost, time.Second), max(time.Until(k.due), time.Millisecond))
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			t.Stop()
			k.look(0)
			return nil
		case <-t.C:
		}
	}
}

// look judges the file now.
func (k *Keeper) look(since time.Duration) (lease.Verdict, lease.Lease, error) {
	now := k.Now()
	if k.File.Machine.AtLeast = 0; !k.last.IsZero() {
		k.File.Machine.AtLeast = lease.Reckon(k.last, now.Sub(k.last)) // the difference is monotonic
	}
	v, l, why, unwritten := k.File.Look(now, since)
	if k.last = (time.Time{}); v.Good() { // a jump forward past the lease's end, put right, is no rollback
		k.last = now
	}
	before := k.now.Verdict
	k.now.Verdict, k.now.Why = v, text(why)
	k.now.Issuer, k.now.Issued, k.now.Expires = l.Grant.Issuer, atSeconds(l.Grant.Issued), atSeconds(l.Grant.Expires)
	if l.Grant.Expires > 0 {
		k.granted = k.now.Expires.Sub(k.now.Issued)
	}
	if v == lease.ValidWarn {
		k.now.Warned++
		k.say("warn", "the lease has less than five days left", "expires", k.now.Expires.UTC(), "do", v.Do())
	}
	if unwritten != nil {
		k.say("disk", "the lease file was not written", "err", unwritten)
	}
	if v != before && before != "" {
		k.Logger.Log(context.Background(), level(v), "lease", "verdict", v, "before", before, "why", k.now.Why, "do", v.Do())
		if !v.Good() {
			k.due, k.failures = time.Now(), 0 // only a fresh lease helps
		}
	}
	k.publish()
	if v != before && k.Judged != nil {
		k.Judged(v)
	}
	return v, l, why
}

func level(v lease.Verdict) slog.Level {
	if v == lease.Valid {
		return slog.LevelInfo
	}
	return slog.LevelWarn
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// oneLine is what the authorities answered.
func oneLine(errs []error) string {
	var out []string
	for _, err := range errs {
		out = append(out, err.Error())
	}
	return strings.Join(out, "; ")
}

func atSeconds(s int64) time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.Unix(s, 0)
}

// use takes up a certificate that the file has and the node has not: this keeper's renewal, or one by hand.
func (k *Keeper) use(l lease.Lease) {
	if !k.now.Verdict.Good() || l.Grant.Nonce == k.nonce {
		return
	}
	if err := k.Renewed(l); err != nil {
		k.say("use", "the lease's certificate was not taken into use", "err", err)
		return
	}
	k.nonce = l.Grant.Nonce
	k.failures = 0
	k.due = time.Now().Add(lease.Next(k.granted, 0, rand.Float64()))
	k.Logger.Info("lease renewed", "issuer", l.Grant.Issuer, "expires", k.now.Expires.UTC())
}

// renew asks the authorities in turn, once.
func (k *Keeper) renew(ctx context.Context) {
	round := Round(ctx, k.File, k.Client, k.Trust, k.Authorities)
	if ctx.Err() != nil {
		return
	}
	k.now.Alarm, k.now.Trouble = round.Alarm, oneLine(round.Errors)
	if round.Lease == nil {
		k.now.Failed++
		k.failures++
		k.due = time.Now().Add(lease.Next(max(k.granted, lease.Term/looksMost), k.failures, rand.Float64()))
		k.say("round "+string(round.Alarm), "the lease was not renewed; the one that there is runs on", "alarm", round.Alarm,
			"expires", k.now.Expires.UTC(), "answers", k.now.Trouble)
		k.publish()
		return
	}
	if len(round.Errors) > 0 {
		k.Logger.Info("an authority did not serve, the next one did", "answers", k.now.Trouble)
	}
	k.now.Trouble = ""
	k.now.Renewed++
	k.failures = 0
	k.due = time.Now().Add(lease.Next(time.Duration(round.Lease.Grant.Expires-round.Lease.Grant.Issued)*time.Second, 0, rand.Float64()))
	maps.DeleteFunc(k.said, func(kind string, _ time.Time) bool { return kind != "warn" })
}

// Round asks the authorities in turn for a fresh lease and puts it into the file. The lease in the file goes along if it can be
// read, whatever it is worth.
func Round(ctx context.Context, f File, c Client, t identity.Trust, authorities []string) lease.Round {
	var previous *lease.Lease
	if b, err := f.read(); err == nil && b != nil {
		if l, err := lease.Decode(b); err == nil {
			previous = &l
		}
	}
	return lease.Renew(len(authorities), func(i int) (lease.Lease, error) {
		if err := ctx.Err(); err != nil {
			return lease.Lease{}, err
		}
		l, err := c.Ask(ctx, authorities[i], t, previous, "")
		if err == nil {
			err = f.Put(l)
		}
		return l, err
	})
}

func (k *Keeper) publish() {
	s := k.now
	k.state.Store(&s)
}

// say logs one kind of trouble at most once an hour while it lasts.
func (k *Keeper) say(kind, text string, args ...any) {
	if now := time.Now(); now.Sub(k.said[kind]) >= sayAgain {
		k.said[kind] = now
		k.Logger.Warn(text, args...)
	}
}
