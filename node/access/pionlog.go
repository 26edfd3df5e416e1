package access

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/pion/logging"
)

// pionLog hands the library's log to ours at debug level: what it calls an error is
// mostly a stranger's malformed packet. Below that it is silent, which also keeps it
// from formatting on the packet path.
type pionLog struct {
	log   *slog.Logger
	scope string
}

// NewLogger implements logging.LoggerFactory.
func (l pionLog) NewLogger(scope string) logging.LeveledLogger { return pionLog{l.log, scope} }

func (l pionLog) write(level, format string, args ...any) {
	if !l.log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	l.log.Debug("webrtc", slog.String("scope", l.scope), slog.String("severity", level), slog.String("text", clip(fmt.Sprintf(format, args...))))
}

func (l pionLog) Trace(string)          {}
func (l pionLog) Tracef(string, ...any) {}
func (l pionLog) Debug(string)          {}
func (l pionLog) Debugf(string, ...any) {}
func (l pionLog) Info(string)           {}
func (l pionLog) Infof(string, ...any)  {}

func (l pionLog) Warn(msg string)                   { l.write("warn", "%s", msg) }
func (l pionLog) Warnf(format string, args ...any)  { l.write("warn", format, args...) }
func (l pionLog) Error(msg string)                  { l.write("error", "%s", msg) }
func (l pionLog) Errorf(format string, args ...any) { l.write("error", format, args...) }
