package main

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/rtp"

	"github.com/ternmesh/tern/bench/client"
	"github.com/ternmesh/tern/node"
	"github.com/ternmesh/tern/node/access/token"
)

// newToken makes a token of the test app.
func newToken(t *testing.T, format, channel string, can ...string) string {
	t.Helper()
	s, err := token.Create(token.CreateOptions{
		Format: format, App: testApp, Certificate: testCertificate, Channel: channel, Now: time.Now(), TTL: time.Hour, Can: can,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// publishAndWatch sends a stream in at one process and waits until packets come out at another.
func publishAndWatch(t *testing.T, in, out *process) {
	t.Helper()
	ingress := in.until("policy", func(s node.Status) bool { return s.PolicyVersion > 0 })
	egress := out.until("policy", func(s node.Status) bool { return s.PolicyVersion > 0 })
	pub, err := client.Publish(t.Context(), client.Config{
		URL:    ingress.AccessURL + "/whip/" + testApp + "/stage",
		Token:  newToken(t, token.Format007, "stage", token.CanPublishAudio, token.CanPublishVideo),
		Source: client.Synthetic{Size: 1000, PerSec: 150, Burst: 5, AudioHz: 50},
	})
	if err != nil {
		t.Fatalf("publish at %s: %v\nlog:\n%s", in.name, err, in.log)
	}
	defer pub.Close()
	var got atomic.Int64
	var view *client.Viewer
	var refused error // for a moment: the directory may not know the stream yet
	t.Cleanup(func() {
		if view == nil {
			t.Logf("watch at %s: %v\nlog of the ingress:\n%s", out.name, refused, in.log)
		}
	})
	out.until("a viewer is admitted", func(node.Status) bool {
		view, refused = client.View(t.Context(), client.Config{
			URL:      egress.AccessURL + "/whep/" + testApp + "/stage",
			Token:    newToken(t, token.FormatJWT, "stage", token.CanSubscribe),
			OnPacket: func(string, *rtp.Packet, time.Time) { got.Add(1) },
		})
		return refused == nil
	})
	defer view.Close()
	out.until("200 packets at the viewer", func(node.Status) bool { return got.Load() >= 200 })
}
