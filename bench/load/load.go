package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
	"golang.org/x/sync/errgroup"

	"github.com/ternmesh/tern/bench/client"
)

// Placeholder in a URL stands for the number of a publisher, from 0.
const Placeholder = "{n}"

const (
	// MaxPublishers and MaxViewers bound a run: each client is about 30 goroutines and half a megabyte.
	MaxPublishers, MaxViewers = 500, 5000
	// MaxJoins bounds the joins of a window.
	MaxJoins = 100_000
	// joinAtOnce bounds the joins under way, so that a server is not measured by how it takes a stampede.
	joinAtOnce = 8
	// joinTimeout bounds one join, its repetitions included: a viewer may come before the server knows its stream.
	joinTimeout = 20 * time.Second
	// joinRetry is the time between two attempts to join.
	joinRetry = 250 * time.Millisecond
	// tail is how long packets of the window may take to arrive.
	tail = time.Second
)

// Config of a run. Publishers, WHIP and For must be set; Viewers need WHEP.
type Config struct {
	Publishers, Viewers     int    // viewers are spread evenly over the publishers' streams
	WHIP, WHEP              string // with more than one publisher both need Placeholder
	PublishToken, ViewToken string // Bearer tokens; "" sends none
	Size                    int    // payload bytes of a video packet, 21 to 1188
	Rate                    float64
	Burst                   int           // packets sent at once, like a frame
	Audio                   float64       // audio packets a second, of 80 bytes; 0: no audio
	Warmup, For             time.Duration // between the last join and the window; the window
	Joins                   int           // viewers more that join evenly over the window and leave at once
	PID                     int           // of the server, to measure its processor time; 0: none
	Headers                 bool          // clients read no more of RTP than its headers; see doc.go
}

// Validate reports everything that is wrong.
func (c Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.Publishers >= 1 && c.Publishers <= MaxPublishers, "publishers: %d is not between 1 and %d", c.Publishers, MaxPublishers)
	check(c.Viewers >= 0 && c.Viewers <= MaxViewers, "viewers: %d is not between 0 and %d", c.Viewers, MaxViewers)
	for _, u := range []struct {
		name, value string
		needed      bool
	}{{"whip", c.WHIP, true}, {"whep", c.WHEP, c.Viewers > 0}} {
		if u.value == "" {
			check(!u.needed, "%s: the URL is missing", u.name)
			continue
		}
		p, err := url.Parse(u.value)
		check(err == nil && (p.Scheme == "http" || p.Scheme == "https" || p.Scheme == rawScheme && c.Headers) && p.Host != "", "%s: %q is not an http or https URL", u.name, u.value)
		check(c.Publishers <= 1 || strings.Contains(u.value, Placeholder), "%s: with %d publishers the URL needs %s where the stream's number goes", u.name, c.Publishers, Placeholder)
	}
	check(c.Size >= client.MinStamp && c.Size <= 1188, "size: %d bytes is not between %d and 1188", c.Size, client.MinStamp)
	check(c.Rate >= 0 && c.Rate <= 10_000 && c.Audio >= 0 && c.Audio <= 1000 && c.Rate+c.Audio > 0, "rate and audio: want 0 to 10000 and 0 to 1000 packets a second, and not both 0")
	check(c.Burst >= 1 && c.Burst <= 1000, "burst: %d is not between 1 and 1000 packets", c.Burst)
	check(c.Warmup >= 0, "warmup: %v is negative", c.Warmup)
	check(c.For >= time.Second && c.For <= 24*time.Hour, "for: %v is not between 1s and 24h", c.For)
	check(c.Joins >= 0 && c.Joins <= MaxJoins && (c.Joins == 0 || c.WHEP != ""), "joins: %d is not between 0 and %d, or --whep is missing", c.Joins, MaxJoins)
	check(c.PID >= 0, "pid: %d is negative", c.PID)
	return errors.Join(errs...)
}

// Run joins all, measures, and ends all. An error says who could not join, or that ctx ended before the window; one that
// ends in the window makes it shorter.
func Run(ctx context.Context, c Config) (*Result, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.PID > 0 {
		if _, err := usageOf(c.PID); err != nil {
			return nil, err
		}
	}
	r := &run{cfg: c, books: newBooks(c.Publishers)}
	defer r.close()
	if c.Headers {
		r.books.headers()
	}
	if err := r.join(ctx); err != nil {
		return nil, err
	}
	return r.measure(ctx)
}

// run is one run's sessions.
type run struct {
	cfg   Config
	books *books

	mu       sync.Mutex // guards sessions
	sessions []session
}

// session is what publishers and viewers share.
type session interface {
	Close() error
	Done() <-chan struct{}
	Timing() client.Timing
	Moves() uint64
}

// join starts publishers, then viewers.
func (r *run) join(ctx context.Context) error {
	publishers := make([]func(context.Context) (session, error), r.cfg.Publishers)
	for i := range publishers {
		publishers[i] = func(ctx context.Context) (session, error) { return r.publish(ctx, i) }
	}
	viewers := make([]func(context.Context) (session, error), r.cfg.Viewers)
	for i := range viewers {
		stream := i % r.cfg.Publishers
		viewers[i] = func(ctx context.Context) (session, error) { return r.view(ctx, stream) }
		r.books.watched(stream)
	}
	if err := r.joinAll(ctx, "publisher", publishers); err != nil {
		return err
	}
	return r.joinAll(ctx, "viewer", viewers)
}

// publish opens the publisher of a stream.
func (r *run) publish(ctx context.Context, stream int) (session, error) {
	source := client.Synthetic{Size: r.cfg.Size, PerSec: r.cfg.Rate, Burst: r.cfg.Burst, AudioHz: r.cfg.Audio}
	to := numbered(r.cfg.WHIP, stream)
	cfg := client.Config{URL: to, Token: r.cfg.PublishToken, Setting: reach(r.cfg.WHIP), Source: counted{source, stream, r.books}}
	switch {
	case isRaw(to):
		return publishRaw(to, source, r.books, stream)
	case r.cfg.Headers:
		var err error
		cfg.Source, cfg.Stay = source, true // on two legs it would leave twice
		none := func(heading, time.Time) {} // a publisher is sent no RTP
		if cfg.Setting, err = headers(cfg.Setting, none, func(h heading, at time.Time) { r.books.left(stream, h, at) }); err != nil {
			return nil, err
		}
	}
	return client.Publish(ctx, cfg)
}

// view opens a viewer of a stream.
func (r *run) view(ctx context.Context, stream int) (session, error) {
	to := numbered(r.cfg.WHEP, stream)
	cfg := client.Config{URL: to, Token: r.cfg.ViewToken, Setting: reach(r.cfg.WHEP)}
	switch {
	case isRaw(to):
		return viewRaw(to, r.books, stream)
	case r.cfg.Headers:
		return openGlance(ctx, cfg, r.books, stream)
	}
	got := receipts{}
	cfg.OnPacket = func(kind string, p *rtp.Packet, at time.Time) { r.books.received(got, kind, p.Payload, at) }
	return client.View(ctx, cfg)
}

func (r *run) joinAll(ctx context.Context, what string, all []func(context.Context) (session, error)) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(joinAtOnce)
	for i, open := range all {
		group.Go(func() error {
			s, err := persistently(ctx, open)
			if err != nil {
				return fmt.Errorf("%s %d of %d could not join: %w", what, i+1, len(all), err)
			}
			r.mu.Lock()
			r.sessions = append(r.sessions, s)
			r.mu.Unlock()
			r.books.joined(what, s.Timing().Connected)
			return nil
		})
	}
	return group.Wait()
}

// persistently tries again while the server may come to know the stream; a refusal of the token is final.
func persistently(ctx context.Context, open func(context.Context) (session, error)) (session, error) {
	limit, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	var why error // the last answer: it says more than that time ran out during another try
	for {
		s, err := open(limit)
		var refused *client.StatusError
		if errors.As(err, &refused) || why == nil {
			why = err
		}
		if err == nil || refused != nil && (refused.Code == 401 || refused.Code == 403) {
			return s, err
		}
		select {
		case <-limit.Done():
			return nil, why
		case <-time.After(joinRetry):
		}
	}
}

// numbered puts the number of a stream into a URL.
func numbered(u string, n int) string { return strings.ReplaceAll(u, Placeholder, strconv.Itoa(n)) }

func isRaw(u string) bool { return strings.HasPrefix(u, rawScheme+"://") }

// reach lets a client use the machine's interfaces, or loopback alone if the server is there.
func reach(u string) func(*webrtc.SettingEngine) {
	p, err := url.Parse(u)
	if err != nil {
		return nil
	}
	if ip := net.ParseIP(p.Hostname()); p.Hostname() == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return func(se *webrtc.SettingEngine) { se.SetIPFilter(func(net.IP) bool { return true }) }
}

// measure runs warm-up, window and tail.
func (r *run) measure(ctx context.Context) (*Result, error) {
	if err := pause(ctx, r.cfg.Warmup); err != nil {
		return nil, err
	}
	server, own := r.usage()
	begin := time.Now()
	r.books.open(begin, begin.Add(r.cfg.For))
	failed := make(chan int64, 1)
	go func() { failed <- r.newcomers(ctx) }()
	_ = pause(ctx, r.cfg.For) // ctx ends the window early, and what came of it counts
	lasted := r.books.shut(time.Now())
	arrived := r.books.arrivals()
	serverEnd, ownEnd := r.usage()
	time.Sleep(tail)
	out := r.books.result(r.cfg, lasted)
	out.LostSessions, out.Newcomers, out.FailedJoins, out.Moves = r.ended(), r.cfg.Joins, int(<-failed), r.moves()
	out.NewcomerJoin = r.books.quantilesOf("newcomer")
	out.GeneratorCPU = (ownEnd.cpu - own.cpu).Seconds()
	if r.cfg.PID > 0 {
		out.Server = &Server{PID: r.cfg.PID, CPUSeconds: (serverEnd.cpu - server.cpu).Seconds(), MemoryMB: float64(serverEnd.memory) / (1 << 20)}
		if arrived > 0 {
			out.Server.MicrosPerPacket = float64((serverEnd.cpu - server.cpu).Microseconds()) / float64(arrived)
		}
	}
	return out, nil
}

// usage of the server and of this process; a server that has ended counts as zero, and its sessions as lost.
func (r *run) usage() (server, own usage) {
	if r.cfg.PID > 0 {
		server, _ = usageOf(r.cfg.PID)
	}
	own, _ = usageOf(0)
	return server, own
}

// ended counts sessions that did not last.
func (r *run) ended() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.sessions {
		select {
		case <-s.Done():
			n++
		default:
		}
	}
	return n
}

// moves counts how often sessions went to another node because theirs asked them to.
func (r *run) moves() (n uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.sessions {
		n += s.Moves()
	}
	return n
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close ends all sessions, several at a time; their goodbyes may fail, which changes no figure.
func (r *run) close() {
	var group errgroup.Group
	group.SetLimit(joinAtOnce)
	for _, s := range r.sessions {
		group.Go(func() error { _ = s.Close(); return nil })
	}
	_ = group.Wait()
}
