package keyset

import (
	"context"
	"crypto"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/ternmesh/tern/node/access/token"
)

// How often sources are read.
const (
	tick       = time.Second
	everyURL   = 5 * time.Minute
	leastAge   = time.Minute
	mostAge    = time.Hour
	everyFile  = 5 * time.Second
	afterError = 15 * time.Second
	unknownGap = 10 * time.Second // between two readings for the sake of an unknown key
	staleAfter = 24 * time.Hour
	fetchFor   = 5 * time.Second
)

// Config of a Store.
type Config struct {
	Logger  *slog.Logger     // nil: no log
	Client  *http.Client     // nil: one that follows no redirects
	Changed func()           // called after the keys of a source changed; nil: nobody asks
	Now     func() time.Time // nil: time.Now
}

// Store holds the keys of all sources that are wanted. Safe for concurrent use.
type Store struct {
	cfg  Config
	wake chan struct{} // capacity 1: there is a source to read

	mu      sync.Mutex
	sources map[string]*source
	stats   Stats
}

// source is one key set. Fields are guarded by Store.mu.
type source struct {
	keys []token.Key
	good time.Time     // of the keys
	next time.Time     // when to read again
	read time.Time     // the last attempt
	busy chan struct{} // closed when the reading under way ends; nil if none is
}

// Stats count since New.
type Stats struct {
	Sources  int // wanted now
	Empty    int // of them, without usable keys
	Reads    uint64
	Failures uint64
}

// New returns a store that wants nothing yet.
func New(cfg Config) *Store {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Changed == nil {
		cfg.Changed = func() {}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Client == nil {
		cfg.Client = &http.Client{Timeout: fetchFor, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	return &Store{cfg: cfg, wake: make(chan struct{}, 1), sources: map[string]*source{}}
}

// Want says which sources the policy names. Those that it no longer names are
// forgotten with their keys; new ones are read at once.
func (s *Store) Want(urls []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for url := range s.sources {
		if !slices.Contains(urls, url) {
			delete(s.sources, url)
		}
	}
	for _, url := range urls {
		if s.sources[url] == nil {
			s.sources[url] = &source{}
		}
	}
	s.poke()
}

func (s *Store) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Keys returns the keys of a source, nil while there are none. The caller must not
// change them.
func (s *Store) Keys(url string) []token.Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	src := s.sources[url]
	if src == nil || s.cfg.Now().Sub(src.good) > staleAfter {
		return nil
	}
	return src.keys
}

// Refresh reads a source again because a token named a key that it does not have, unless
// that happened in the last seconds. It returns when no reading is under way, or ctx ends:
// then the token is worth another look.
func (s *Store) Refresh(ctx context.Context, url string) {
	s.mu.Lock()
	src := s.sources[url]
	if src == nil {
		s.mu.Unlock()
		return
	}
	if src.busy == nil && s.cfg.Now().Sub(src.read) >= unknownGap {
		src.next = time.Time{}
		src.busy = make(chan struct{}) // Run closes it
		s.poke()
	}
	busy := src.busy
	s.mu.Unlock()
	if busy == nil {
		return
	}
	select {
	case <-busy:
	case <-ctx.Done():
	}
}

// Stats returns a snapshot.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.stats
	out.Sources = len(s.sources)
	for _, src := range s.sources {
		if len(src.keys) == 0 {
			out.Empty++
		}
	}
	return out
}

// Run reads sources when they are due, until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		for url, src := range s.due() {
			wg.Go(func() { s.renew(ctx, url, src) })
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		case <-s.wake:
		}
	}
}

// due takes the sources to read now: each is put off, so that none is read twice at once.
func (s *Store) due() map[string]*source {
	due := map[string]*source{}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.cfg.Now()
	for url, src := range s.sources {
		if now.Before(src.next) {
			continue
		}
		if src.busy == nil {
			src.busy = make(chan struct{})
		}
		src.read, src.next = now, now.Add(2*fetchFor)
		due[url] = src
	}
	return due
}

// renew reads one source and stores what came of it.
func (s *Store) renew(ctx context.Context, url string, src *source) {
	keys, again, err := s.fetch(ctx, url)
	if err != nil {
		again = afterError
	}
	changed := s.store(src, keys, again, err)
	if err != nil && ctx.Err() == nil {
		s.cfg.Logger.Warn("key set not read: the last good keys stay in force for 24 hours", slog.String("source", url), slog.Any("err", err))
	}
	if changed {
		s.cfg.Logger.Info("key set changed", slog.String("source", url), slog.Int("keys", len(keys)))
		s.cfg.Changed()
	}
}

// store keeps the result of a reading, and wakes who waits for it.
func (s *Store) store(src *source, keys []token.Key, again time.Duration, err error) (changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.cfg.Now()
	s.stats.Reads++
	src.next = now.Add(again)
	switch {
	case err == nil:
		changed = !equal(src.keys, keys)
		src.keys, src.good = keys, now
	case src.keys != nil && now.Sub(src.good) > staleAfter:
		src.keys, changed = nil, true
		fallthrough
	default:
		s.stats.Failures++
	}
	close(src.busy)
	src.busy = nil
	return changed
}

// equal compares sets in order: an issuer that reorders its keys costs a look at the
// sessions, no more.
func equal(a, b []token.Key) bool {
	return slices.EqualFunc(a, b, func(x, y token.Key) bool {
		k, ok := x.Public.(interface{ Equal(crypto.PublicKey) bool })
		return ok && x.ID == y.ID && k.Equal(y.Public)
	})
}
