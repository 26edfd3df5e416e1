package node

import (
	"io"
	"log/slog"
)

// levelOf a configuration's word; info is the zero level.
func levelOf(word string) slog.Level {
	return map[string]slog.Level{"debug": slog.LevelDebug, "warn": slog.LevelWarn, "error": slog.LevelError}[word]
}

// NewLogger makes the logger that a configuration asks for.
func NewLogger(w io.Writer, c LogConfig) *slog.Logger { return newLogger(w, c, levelOf(c.Level)) }

func newLogger(w io.Writer, c LogConfig, level slog.Leveler) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
