package probe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"time"

	"github.com/ternmesh/tern/media"
)

// Channel is the room of every probe's stream; the stream is called as the probe.
const Channel = "tern-probe"

// Bounds of a probe.
const (
	MaxPacketsPerSecond = 2000
	MaxBytes            = 1200
	MaxFor              = time.Hour
	maxEnds             = 8
	maxArrivals         = 1 << 16
	// abandoned is how long a receiving end lives without being collected from.
	abandoned = 30 * time.Second
)

// What can be asked.
const (
	Clock   = "clock"   // the time here
	Send    = "send"    // publish ID and send for For
	Listen  = "listen"  // watch ID until it is collected from no more
	Collect = "collect" // what has arrived since the last time, or how far the sending is
)

// Request is one step of a probe.
type Request struct {
	Op               string        `json:"op"`
	ID               string        `json:"id,omitempty"` // of the probe: 1 to 32 of a-z and 0-9
	App              string        `json:"app,omitempty"`
	PacketsPerSecond int           `json:"packets_per_second,omitempty"`
	Bytes            int           `json:"bytes,omitempty"` // of an RTP packet
	For              time.Duration `json:"for_ns,omitempty"`
}

// Answer to a Request; Error says why there is none.
type Answer struct {
	Error    string `json:"error,omitempty"`
	Now      int64  `json:"now_ns"`             // Unix nanoseconds, of this node's clock
	Began    int64  `json:"began_ns,omitempty"` // of a sender: instant of packet 0
	Sent     uint64 `json:"sent,omitempty"`     // by a sender so far
	Watching bool   `json:"watching,omitempty"` // a receiver has found the stream
	Records  []byte `json:"records,omitempty"`  // see Arrivals
	Dropped  uint64 `json:"dropped,omitempty"`  // arrivals that found no room here
	Foreign  uint64 `json:"foreign,omitempty"`  // packets without a stamp
}

var plainID = regexp.MustCompile(`^[a-z0-9]{1,32}$`)

// check reports everything that is wrong with a request.
func (r Request) check() error {
	var errs []error
	if r.Op != Clock && !plainID.MatchString(r.ID) {
		errs = append(errs, fmt.Errorf("id %q is not 1 to 32 of a-z and 0-9", r.ID))
	}
	switch r.Op {
	case Clock, Collect, Listen:
	case Send:
		if r.PacketsPerSecond < 1 || r.PacketsPerSecond > MaxPacketsPerSecond {
			errs = append(errs, fmt.Errorf("%d packets a second, want 1 to %d", r.PacketsPerSecond, MaxPacketsPerSecond))
		}
		if r.Bytes < MinBytes || r.Bytes > MaxBytes {
			errs = append(errs, fmt.Errorf("packets of %d bytes, want %d to %d", r.Bytes, MinBytes, MaxBytes))
		}
		if r.For < time.Second || r.For > MaxFor {
			errs = append(errs, fmt.Errorf("for %v, want 1s to %v", r.For, MaxFor))
		}
	default:
		errs = append(errs, fmt.Errorf("op %q is not one of clock, send, listen, collect", r.Op))
	}
	return errors.Join(errs...)
}

// Prober holds the ends of probes at one node.
type Prober struct {
	hub   *media.Hub
	start chan func(context.Context) // unbuffered: an end begins when Run takes it

	mu   sync.Mutex // guards ends
	ends map[string]*end
}

// New makes a prober; Run must run for it to do anything but tell the time.
func New(hub *media.Hub) *Prober {
	return &Prober{hub: hub, start: make(chan func(context.Context)), ends: make(map[string]*end)}
}

// Run lives until ctx ends; all ends do too.
func (p *Prober) Run(ctx context.Context) error {
	var group sync.WaitGroup
	defer group.Wait()
	for {
		select {
		case f := <-p.start:
			group.Go(func() { f(ctx) })
		case <-ctx.Done():
			return nil
		}
	}
}

// Serve answers a Request in JSON with an Answer in JSON; whatever is wrong is in the answer.
func (p *Prober) Serve(ctx context.Context, request []byte) []byte {
	var r Request
	err := json.Unmarshal(request, &r)
	var a Answer
	if err == nil {
		if err = r.check(); err == nil {
			a, err = p.do(ctx, r)
		}
	}
	if err != nil {
		a = Answer{Error: err.Error()}
	}
	a.Now = time.Now().UnixNano()
	out, _ := json.Marshal(a) // no field can fail
	return out
}

func (p *Prober) do(ctx context.Context, r Request) (Answer, error) {
	switch r.Op {
	case Send:
		return Answer{}, p.begin(ctx, r, p.send)
	case Listen:
		return Answer{}, p.begin(ctx, r, p.listen)
	case Collect:
		p.mu.Lock()
		e := p.ends[r.ID]
		p.mu.Unlock()
		if e == nil {
			return Answer{}, fmt.Errorf("there is no probe %s here (any more)", r.ID)
		}
		return e.collect()
	}
	return Answer{}, nil
}

// begin starts an end under Run.
func (p *Prober) begin(ctx context.Context, r Request, run func(context.Context, *end)) error {
	e := &end{request: r, collected: time.Now()}
	p.mu.Lock()
	full, taken := len(p.ends) >= maxEnds, p.ends[r.ID] != nil
	if !full && !taken {
		p.ends[r.ID] = e
	}
	p.mu.Unlock()
	switch {
	case taken:
		return fmt.Errorf("a probe %s is here already", r.ID)
	case full:
		return fmt.Errorf("%d probes run here already", maxEnds)
	}
	select {
	case p.start <- func(ctx context.Context) {
		run(ctx, e)
		p.forget(e)
	}:
		return nil
	case <-ctx.Done():
		p.forget(e)
		return ctx.Err()
	}
}

func (p *Prober) forget(e *end) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.ends, e.request.ID)
}
