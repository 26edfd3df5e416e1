package control

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// hclogTo hands raft's log lines to l. Raft logs indices, terms and names, never the content of entries.
func hclogTo(l *slog.Logger) hclog.Logger {
	level := hclog.Info
	if l.Enabled(context.Background(), slog.LevelDebug) {
		level = hclog.Debug
	}
	out := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "raft", Output: io.Discard, Level: hclog.Off})
	out.RegisterSink(sink{l: l, least: level})
	return out
}

// sink implements hclog.SinkAdapter.
type sink struct {
	l     *slog.Logger
	least hclog.Level
}

// Accept forwards one line.
func (s sink) Accept(name string, level hclog.Level, msg string, args ...any) {
	if level < s.least {
		return
	}
	to := slog.LevelDebug
	switch {
	case level >= hclog.Warn: // its errors, too: most are of peers that cannot be reached, and what this node lacks Control says itself
		to = slog.LevelWarn
	case level == hclog.Info:
		to = slog.LevelInfo
	}
	fields := []any{"part", name}
	for _, a := range args {
		if f, ok := a.(hclog.Format); ok && len(f) > 0 { // a format and its values, to be put together by us
			format, _ := f[0].(string)
			a = fmt.Sprintf(format, f[1:]...)
		}
		fields = append(fields, a)
	}
	s.l.Log(context.Background(), to, msg, fields...)
}
