package node

import (
	"io"
	"log/slog"
)

// NewLogger makes the logger that a configuration asks for.
func NewLogger(w io.Writer, c LogConfig) *slog.Logger {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "warn": slog.LevelWarn, "error": slog.LevelError}
	options := &slog.HandlerOptions{Level: levels[c.Level]} // info is the zero level
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
