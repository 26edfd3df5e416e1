package main

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ternmesh/tern/node"
)

// hanging is a node whose configuration lies on a file system that does not answer.
type hanging struct{ answer chan struct{} }

func (h hanging) Ready() <-chan struct{} { c := make(chan struct{}); close(c); return c }
func (h hanging) Idle() bool             { return false }
func (h hanging) Status() node.Status    { return node.Status{} }
func (h hanging) ReloadFile() (node.ReloadReport, error) {
	<-h.answer
	return node.ReloadReport{}, nil
}

func TestTheWatchdogIsFedWhileAReloadHangs(t *testing.T) {
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	t.Setenv("NOTIFY_SOCKET", socket.LocalAddr().String())
	t.Setenv("WATCHDOG_USEC", "20000")
	t.Setenv("WATCHDOG_PID", "")
	_ = socket.SetReadDeadline(time.Now().Add(30 * time.Second))
	await := func(want string) {
		t.Helper()
		buf := make([]byte, 256)
		for {
			n, err := socket.Read(buf)
			if err != nil {
				t.Fatalf("systemd was not told %q: %v", want, err)
			}
			if strings.HasPrefix(string(buf[:n]), want) {
				return
			}
		}
	}
	n := hanging{make(chan struct{})}
	ctx, stop := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() { supervise(ctx, n); close(over) }()
	await("READY=1")
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	await("RELOADING=1")
	await("WATCHDOG=1")
	await("WATCHDOG=1")
	close(n.answer)
	await("READY=1")
	stop()
	<-over
}
