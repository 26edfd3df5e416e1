package node

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// What the log takes. A message is the constant text of a line; what varies is in its attributes, so one fault that repeats is
// one message. Lines beyond a limit are counted and said once, as soon as there is room or logSumEvery has passed.
const (
	logInfoBurst, logInfoRate = 200, 50 // lines of one message at once, and per second: debug and info
	logWarnBurst, logWarnRate = 20, 2   // the same for warnings and errors
	logAllBurst, logAllRate   = 1000, 200
	logSumEvery               = 10 * time.Second
	// logMessages bounds the messages that have a limit of their own; the rest (libraries make some of theirs up) share one.
	logMessages = 512
)

// logLimit is a slog.Handler that keeps a fault from filling the disk. Handlers made from it share its limits.
type logLimit struct {
	slog.Handler
	s *logShared
}

type logShared struct {
	left [4]atomic.Uint64 // lines left out: debug, info, warn, error

	mu     sync.Mutex // guards the rest
	all    *rate.Limiter
	by     map[logKey]*logBucket
	summed time.Time
}

type logKey struct {
	level   slog.Level
	message string
}

type logBucket struct {
	limit *rate.Limiter
	more  uint64 // left out since the last line that was let through
}

func newLogLimit(next slog.Handler) logLimit {
	return logLimit{next, &logShared{all: rate.NewLimiter(logAllRate, logAllBurst), by: make(map[logKey]*logBucket)}}
}

// Handle implements slog.Handler. The record's own time is the clock.
func (l logLimit) Handle(ctx context.Context, r slog.Record) error {
	pass, more, sums := l.s.judge(logKey{r.Level, r.Message}, r.Time)
	for k, left := range sums {
		sum := slog.NewRecord(r.Time, k.level, "log lines left out", 0)
		sum.AddAttrs(slog.String("of", k.message), slog.Uint64("suppressed", left))
		_ = l.Handler.Handle(ctx, sum)
	}
	if !pass {
		return nil
	}
	if more > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Uint64("suppressed", more))
	}
	return l.Handler.Handle(ctx, r)
}

// judge says whether a line passes, how many of its message were left out before it, and which other messages' counts are
// due to be said.
func (s *logShared) judge(k logKey, now time.Time) (pass bool, more uint64, sums map[logKey]uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.bucket(&k)
	if pass = b.limit.AllowN(now, 1) && s.all.AllowN(now, 1); pass {
		more, b.more = b.more, 0
	} else {
		b.more++
		s.left[min(max(int(k.level+4)/4, 0), 3)].Add(1)
	}
	if now.Sub(s.summed) >= logSumEvery {
		s.summed = now
		sums = make(map[logKey]uint64)
		for other, b := range s.by {
			if b.more > 0 && other != k {
				sums[other], b.more = b.more, 0
			}
		}
	}
	return pass, more, sums
}

// bucket finds a message's limit; beyond logMessages k becomes that of all others of its level.
func (s *logShared) bucket(k *logKey) *logBucket {
	if b := s.by[*k]; b != nil {
		return b
	}
	if len(s.by) >= logMessages {
		k.message = "(others)"
		if b := s.by[*k]; b != nil {
			return b
		}
	}
	b := &logBucket{limit: rate.NewLimiter(logInfoRate, logInfoBurst)}
	if k.level >= slog.LevelWarn {
		b.limit = rate.NewLimiter(logWarnRate, logWarnBurst)
	}
	s.by[*k] = b
	return b
}

// suppressed counts the lines left out, by level.
func (s *logShared) suppressed() map[string]uint64 {
	out := make(map[string]uint64, len(s.left))
	for i, level := range []string{"debug", "info", "warn", "error"} {
		out[level] = s.left[i].Load()
	}
	return out
}

// WithAttrs implements slog.Handler.
func (l logLimit) WithAttrs(attrs []slog.Attr) slog.Handler {
	return logLimit{l.Handler.WithAttrs(attrs), l.s}
}

// WithGroup implements slog.Handler.
func (l logLimit) WithGroup(name string) slog.Handler {
	return logLimit{l.Handler.WithGroup(name), l.s}
}
