package fair

import (
	"net"
	"net/netip"
	"testing"
)

// row is a listener whose clients come from the addresses in it.
type row struct{ clients chan string }

func (r row) Accept() (net.Conn, error) { return &client{from: <-r.clients}, nil }
func (row) Close() error                { return nil }
func (row) Addr() net.Addr              { return nil }

type client struct {
	net.Conn
	from   string
	closed bool
}

func (c *client) RemoteAddr() net.Addr { return remote(c.from) }
func (c *client) Close() error         { c.closed = true; return nil }

type remote string

func (remote) Network() string  { return "tcp" }
func (r remote) String() string { return string(r) }

func TestASourceIsASubscriber(t *testing.T) {
	if SourceOf("[2001:db8::1]:1") != SourceOf("[2001:db8::ffff:1]:2") || SourceOf("[2001:db8::1]:1") == SourceOf("[2001:db8:0:1::1]:1") {
		t.Error("an IPv6 source is a /64")
	}
	if SourceOf("192.0.2.1:1") != SourceOf("[::ffff:192.0.2.1]:2") || SourceOf("192.0.2.1:1") == SourceOf("192.0.2.2:1") {
		t.Error("an IPv4 source is an address, however it is written")
	}
}

func TestOneSourceCannotTakeEveryConnection(t *testing.T) {
	clients, refused := make(chan string, 16), 0
	l := Listen(row{clients}, Limits{
		All: 100, Source: 2, Refused: func() { refused++ },
		Exempt: func(a netip.Addr) bool { return a.IsLoopback() },
	})
	next := func(from ...string) (c net.Conn) {
		t.Helper()
		for _, f := range from {
			clients <- f
		}
		for range from {
			var err error
			if c, err = l.Accept(); err != nil {
				t.Fatal(err)
			}
		}
		return c
	}
	last := next("192.0.2.1:1", "192.0.2.1:2")
	clients <- "192.0.2.1:3"
	if c := next("192.0.2.2:1"); c.RemoteAddr().String() != "192.0.2.2:1" || refused != 1 {
		t.Fatalf("after the share of one comes %s, %d refused", c.RemoteAddr(), refused)
	}
	_, _ = last.Close(), last.Close() // twice gives one place
	next("192.0.2.1:4")
	clients <- "192.0.2.1:5"
	next("[2001:db8::1]:1", "[2001:db8::2]:1")
	clients <- "[2001:db8::3]:1"
	next("127.0.0.1:1", "[::ffff:127.0.0.1]:2", "127.0.0.1:3", "@", "@", "@")
	if refused != 3 {
		t.Errorf("%d refused", refused)
	}
}
