package sim

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestAStreamsWriterNeverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := StreamPair()
		start := time.Now()
		text := strings.Repeat("x", 1000)
		for range 100 {
			if _, err := a.Write([]byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(b)
		if err != nil || string(got) != strings.Repeat(text, 100) {
			t.Errorf("%d bytes came, %v", len(got), err)
		}
		if _, err := a.Write([]byte("x")); err == nil {
			t.Error("a closed stream takes more")
		}
		c, d := StreamPair()
		for range maxUnread / 1000 {
			if _, err := c.Write([]byte(text)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait() // what the other goroutine has taken, but nobody read, counts too
		}
		if _, err := c.Write([]byte(text)); err == nil {
			t.Error("what nobody reads has no bound")
		}
		_ = d.SetReadDeadline(time.Now())
		if _, err := io.Copy(io.Discard, d); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != 0 {
			t.Errorf("past its deadline: %v after %v", err, time.Since(start))
		}
		for _, x := range []io.Closer{b, c, d} {
			_ = x.Close()
		}
	})
}

func TestAStreamListenerThatIsClosedRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewStreamListener(&net.TCPAddr{})
		go func() {
			c, err := l.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = c.Write([]byte("hello"))
			_ = c.Close()
		}()
		c, err := l.Dial(t.Context(), "tcp", "")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(c); err != nil || string(got) != "hello" {
			t.Errorf("%q, %v", got, err)
		}
		_ = c.Close()
		soon, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := l.Dial(soon, "tcp", ""); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("nobody accepts: %v", err)
		}
		time.AfterFunc(time.Second, func() { _ = l.Close() })
		for range 2 { // while it waits, and after
			if _, err := l.Dial(t.Context(), "tcp", ""); err == nil {
				t.Error("a closed listener took a connection")
			}
			if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("accept: %v", err)
			}
		}
		if _, err := (*StreamListener)(nil).Dial(t.Context(), "tcp", ""); err == nil {
			t.Error("there was no listener, and it took a connection")
		}
	})
}
