package mesh

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"time"
)

const (
	warnEvery = time.Minute
	maxKinds  = 256 // kinds of warnings remembered; when full, all may be said again
)

// limiter logs each kind of warning at most once a minute and counts what it holds back.
type limiter struct {
	log *slog.Logger

	mu   sync.Mutex
	last map[string]*said // guarded by mu
}

type said struct {
	at   time.Time
	held int
}

func newLimiter(log *slog.Logger) *limiter { return &limiter{log: log, last: make(map[string]*said)} }

// Warn logs msg, which is also its kind, unless it was logged within the last minute.
func (l *limiter) Warn(msg string, args ...any) { l.warn(msg, msg, args) }

func (l *limiter) warn(kind, msg string, args []any) {
	now := time.Now()
	l.mu.Lock()
	s := l.last[kind]
	if s != nil && now.Sub(s.at) < warnEvery {
		s.held++
		l.mu.Unlock()
		return
	}
	if s == nil {
		if len(l.last) >= maxKinds {
			clear(l.last)
		}
		s = &said{}
		l.last[kind] = s
	}
	if s.held > 0 {
		args = append(args, "held_back", s.held)
	}
	s.at, s.held = now, 0
	l.mu.Unlock()
	l.log.Warn(msg, args...)
}

// Write takes memberlist's log lines: "[LEVEL] memberlist: text". Debug and info become debug. Its warnings are about single
// packets of single peers, so they are limited by kind: the text up to the first detail.
func (l *limiter) Write(line []byte) (int, error) {
	text := string(bytes.TrimSpace(line))
	level, rest, ok := strings.Cut(strings.TrimPrefix(text, "["), "] ")
	if !ok {
		level, rest = "WARN", text
	}
	rest = strings.TrimPrefix(rest, "memberlist: ")
	if level == "DEBUG" || level == "INFO" {
		l.log.Debug(rest, "from", "memberlist")
		return len(line), nil
	}
	kind := rest
	if i := strings.IndexAny(rest, "0123456789'\":("); i > 0 {
		kind = rest[:i]
	}
	l.warn("memberlist "+kind, rest, []any{"from", "memberlist"})
	return len(line), nil
}
