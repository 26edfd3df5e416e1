package node

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// floodOf writes lines of one message at one moment.
func floodOf(l slog.Handler, at time.Time, level slog.Level, message string, lines int) {
	for i := range lines {
		r := slog.NewRecord(at, level, message, 0)
		r.AddAttrs(slog.Int("i", i))
		_ = l.Handle(context.Background(), r)
	}
}

func TestAFaultThatRepeatsDoesNotFillTheDisk(t *testing.T) {
	var out bytes.Buffer
	l := newLogLimit(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	now := time.Unix(1000, 0)
	floodOf(l, now, slog.LevelWarn, "peer misbehaves", 1_000_000)
	floodOf(l.WithAttrs([]slog.Attr{slog.String("node", "fra")}), now, slog.LevelWarn, "peer misbehaves", 5)
	if n := strings.Count(out.String(), "\n"); n != logWarnBurst {
		t.Fatalf("%d lines of a million of one moment, want %d", n, logWarnBurst)
	}
	floodOf(l, now, slog.LevelError, "disk is full", 1)
	if !strings.Contains(out.String(), "disk is full") {
		t.Error("one message's flood hid another message")
	}
	out.Reset()
	floodOf(l, now.Add(time.Second), slog.LevelWarn, "peer misbehaves", 1)
	if !strings.Contains(out.String(), `"suppressed":999985`) {
		t.Errorf("the next line does not say how many are missing: %s", out.String())
	}
	floodOf(l, now.Add(time.Second), slog.LevelWarn, "peer misbehaves", 100)
	out.Reset()
	floodOf(l, now.Add(time.Minute), slog.LevelInfo, "session opened", 1)
	if !strings.Contains(out.String(), `"of":"peer misbehaves","suppressed":99`) || strings.Count(out.String(), "\n") != 2 {
		t.Errorf("what was left out of a flood that ended is not said: %s", out.String())
	}
	if got := l.s.suppressed(); got["warn"] != 999985+99 || got["error"] != 0 {
		t.Errorf("counted %v", got)
	}
}

func TestManyMessagesTogetherAreLimitedToo(t *testing.T) {
	var out bytes.Buffer
	l := newLogLimit(slog.NewTextHandler(&out, nil))
	now := time.Unix(1000, 0)
	for i := range 10 * logMessages {
		floodOf(l, now, slog.LevelInfo, fmt.Sprintf("made up %d", i), 10)
	}
	if n := strings.Count(out.String(), "\n"); n > logAllBurst {
		t.Errorf("%d lines of one moment, at most %d are let through", n, logAllBurst)
	}
	if n := len(l.s.by); n > logMessages+4 {
		t.Errorf("%d messages are remembered, at most %d", n, logMessages+4)
	}
}

func BenchmarkLogLineLeftOut(b *testing.B) {
	l := newLogLimit(slog.NewTextHandler(&bytes.Buffer{}, nil))
	now := time.Unix(1000, 0)
	for b.Loop() {
		_, _, _ = l.s.judge(logKey{slog.LevelWarn, "x"}, now)
	}
}
