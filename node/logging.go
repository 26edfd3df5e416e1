package node

import (
	"io"
	"log/slog"
)

// levelOf a configuration's word; info is the zero level.
func levelOf(word string) slog.Level {
	return map[string]slog.Level{"debug": slog.LevelDebug, "warn": slog.LevelWarn, "error": slog.LevelError}[word]
}

// NewLogger makes the logger that a configuration asks for, with the limits of logLimit.
func NewLogger(w io.Writer, c LogConfig) *slog.Logger {
	return slog.New(newHandler(w, c, levelOf(c.Level)))
}

func newHandler(w io.Writer, c LogConfig, level slog.Leveler) logLimit {
	options := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return newLogLimit(slog.NewJSONHandler(w, options))
	}
	return newLogLimit(slog.NewTextHandler(w, options))
}
