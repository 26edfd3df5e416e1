package gate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"
)

// maxSocketPath is how long a socket's path may be for the kernel, in bytes.
const maxSocketPath = 107

// Listen opens the Unix socket at path with mode 0600. A socket that a process left behind is replaced; one that somebody
// still answers on is an error.
func Listen(ctx context.Context, path string) (net.Listener, error) {
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("%s exists and is no socket: remove it or name another path", path)
	default:
		if conn, err := Dial(ctx, path); err == nil {
			_ = conn.Close()
			return nil, fmt.Errorf("%s: another process answers there", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	var ln net.Listener
	err := within(path, func(short string) (err error) {
		ln, err = (&net.ListenConfig{}).Listen(ctx, "unix", short)
		if err == nil { // the short name is no name any more when the listener closes
			ln.(*net.UnixListener).SetUnlinkOnClose(false)
			err = os.Chmod(path, 0o600)
		}
		return err
	})
	if err != nil {
		if ln != nil {
			_ = ln.Close()
		}
		return nil, err
	}
	return &socketListener{ln, path}, nil
}

// socketListener takes its file away when it closes.
type socketListener struct {
	net.Listener
	path string
}

// Accept implements net.Listener. The remote address of its connections is who connects: that survives whatever wraps them.
func (l *socketListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return socketConn{conn, peerOf(conn.(*net.UnixConn))}, nil
}

type socketConn struct {
	net.Conn
	peer socketPeer
}

// RemoteAddr implements net.Conn.
func (c socketConn) RemoteAddr() net.Addr { return c.peer }

// Close implements net.Listener.
func (l *socketListener) Close() error {
	return errors.Join(l.Listener.Close(), ignoreGone(os.Remove(l.path)))
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Dial connects to the Unix socket at path.
func Dial(ctx context.Context, path string) (conn net.Conn, err error) {
	err = within(path, func(short string) error {
		conn, err = (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", short)
		return err
	})
	return conn, err
}

// within calls f with a name for path that the kernel takes: a path that is too long is reached through its open directory.
func within(path string, f func(short string) error) error {
	if len(path) <= maxSocketPath {
		return f(path)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	return f(fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)))
}
