package access

import (
	"context"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
)

func TestRTPPortsThatCannotBeOpened(t *testing.T) {
	var failure error
	w := newWorld(t, func(c *Config) {
		c.ListenRTP = func(context.Context) (net.PacketConn, error) { return nil, failure }
	})
	for _, tc := range []struct {
		err           error
		level, reason string
	}{
		{fmt.Errorf("ports 1 to 2: %w", syscall.EADDRINUSE), "INFO", "rtp_ports"},
		{fmt.Errorf("open the port: %w", syscall.EMFILE), "ERROR", "rtp_listen"},
	} {
		failure = tc.err
		res := w.do("POST", "/v1/apps/open/channels/room/rtp", "", "Content-Type", typeJSON)
		if res.code != 503 || strings.Contains(res.body, "detail") || res.header.Get("Retry-After") == "" {
			t.Errorf("%v: the client gets %d %s, want 503 without detail", tc.err, res.code, res.body)
		}
		want := fmt.Sprintf("level=%s msg=\"request refused\" status=503 reason=%s", tc.level, tc.reason)
		if !strings.Contains(w.log.String(), want) || !strings.Contains(w.log.String(), tc.err.Error()) {
			t.Errorf("%v: the log does not say %s\n%s", tc.err, want, w.log)
		}
	}
}
