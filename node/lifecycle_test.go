package node

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestStagesStopInReverseOrderEachAfterTheOneAbove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var order []string
		s := func(name string) stage {
			return stage{name, func(ctx context.Context) error {
				<-ctx.Done()
				time.Sleep(time.Second) // a goodbye
				mu.Lock()
				defer mu.Unlock()
				order = append(order, name)
				return nil
			}}
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if err := runStages(ctx, slog.New(slog.DiscardHandler), 10*time.Second, []stage{s("filter"), s("mesh"), s("access")}); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(order, " "); got != "access mesh filter" {
			t.Errorf("stopped in the order %s", got)
		}
	})
}

func TestAStageThatFailsEndsTheNodeAndIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wait := stage{"mesh", func(ctx context.Context) error { <-ctx.Done(); return nil }}
		fail := stage{"control", func(context.Context) error { return errors.New("disk full") }}
		err := runStages(t.Context(), slog.New(slog.DiscardHandler), time.Second, []stage{wait, fail})
		if err == nil || strings.Count(err.Error(), "control: disk full") != 1 {
			t.Errorf("%v", err)
		}
	})
}

func TestAStageThatDoesNotStopIsLeftBehindAndNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		stuck := stage{"sessions", func(context.Context) error { <-release; return nil }}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		start := time.Now()
		err := runStages(ctx, slog.New(slog.DiscardHandler), 10*time.Second, []stage{stuck})
		if err == nil || !strings.Contains(err.Error(), "sessions did not stop within 10s") || time.Since(start) != 10*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		close(release)
	})
}
