package token

import (
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	lkKey    = "APIdevmesh0001"
	lkSecret = "devsecret-0123456789abcdef0123456789ab"

	l1 = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJBUElkZXZtZXNoMDAwMSIsInN1YiI6ImFsaWNlIiwiaWF0IjoxNzAwMDAwMDAwLCJuYmYiOjE3MDAwMDAwMDAsImV4cCI6NDEwMjQ0NDgwMCwibmFtZSI6IkFsaWNlIiwidmlkZW8iOnsicm9vbUpvaW4iOnRydWUsInJvb20iOiJyb29tLTEiLCJjYW5QdWJsaXNoIjp0cnVlLCJjYW5TdWJzY3JpYmUiOnRydWUsImNhblB1Ymxpc2hEYXRhIjpmYWxzZSwiY2FuUHVibGlzaFNvdXJjZXMiOlsiY2FtZXJhIiwibWljcm9waG9uZSJdfSwibWV0YWRhdGEiOiJ7XCJrXCI6MX0ifQ.dczE7jjRJ98IQqIS3HZZYe3Umo_HGXMAJBb1oUa2nbA"
	l2 = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJBUElkZXZtZXNoMDAwMSIsInN1YiI6ImJvYiIsIm5iZiI6MTcwMDAwMDAwMCwiZXhwIjo0MTAyNDQ0ODAwLCJ2aWRlbyI6eyJyb29tSm9pbiI6dHJ1ZSwicm9vbSI6InJvb20tMSJ9fQ.rpDMhjDtTqBA875fohU0Naxj1euDQBHl8zxMSKTurtw"
	l3 = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJBUElkZXZtZXNoMDAwMSIsInN1YiI6ImNhcm9sIiwibmJmIjoxNzAwMDAwMDAwLCJleHAiOjQxMDI0NDQ4MDAsInZpZGVvIjp7InJvb21Kb2luIjp0cnVlLCJyb29tIjoicm9vbS0xIiwiY2FuUHVibGlzaCI6ZmFsc2V9fQ.kGiC0sl-4d-tYRgHHz8CrPa4pHIy7rxayhGqXJi074s"
)

var (
	lkApp = App{ID: "demo", Issuers: []string{lkKey}, Certificates: []string{lkSecret}, Auth: AuthToken}
	lkNow = time.Unix(1700000100, 0)
)

func TestLiveKitVectors(t *testing.T) {
	end := time.Unix(1700000000, 0).Add(24 * time.Hour) // they live until 2100 and are cut
	for _, tc := range []struct {
		name, tok string
		want      Grant
	}{
		{"L1: data forbidden, camera and microphone", l1, Grant{App: "demo", Channel: "room-1", User: "alice", Join: end, PublishAudio: end, PublishVideo: end, Subscribe: end}},
		{"L2: defaults", l2, Grant{App: "demo", Channel: "room-1", User: "bob", Join: end, PublishAudio: end, PublishVideo: end, PublishData: end, Subscribe: end}},
		{"L3: may not publish", l3, Grant{App: "demo", Channel: "room-1", User: "carol", Join: end, Subscribe: end}},
	} {
		if got, err := Verify(tc.tok, lkApp, "room-1", lkNow); err != nil || got != tc.want {
			t.Errorf("%s: granted %+v (%v), want %+v", tc.name, got, err, tc.want)
		}
	}
	if _, err := Verify(l1, lkApp, "room-1", end); ReasonOf(err) != ReasonExpired {
		t.Errorf("24 hours after its issue: %v", err)
	}
}

func TestLiveKitRules(t *testing.T) {
	now := lkNow.Unix()
	type m = jwt.MapClaims
	video := func(kv ...any) map[string]any {
		v := map[string]any{"roomJoin": true, "room": "room-1"}
		for i := 0; i < len(kv); i += 2 {
			v[kv[i].(string)] = kv[i+1]
		}
		return v
	}
	lk := func(c m) string { return forge(t, jwt.SigningMethodHS256, []byte(lkSecret), nil, c) }
	for _, tc := range []struct {
		name, tok string
		want      Reason
	}{
		{"expired 30 s ago", lk(m{"iss": lkKey, "sub": "a", "nbf": now - 600, "exp": now - 30, "video": video()}), ""},
		{"expired 120 s ago", lk(m{"iss": lkKey, "sub": "a", "nbf": now - 600, "exp": now - 120, "video": video()}), ReasonExpired},
		{"nbf in 30 s", lk(m{"iss": lkKey, "sub": "a", "nbf": now + 30, "exp": now + 600, "video": video()}), ""},
		{"nbf in 120 s", lk(m{"iss": lkKey, "sub": "a", "nbf": now + 120, "exp": now + 600, "video": video()}), ReasonNotYetValid},
		{"no exp", lk(m{"iss": lkKey, "sub": "a", "nbf": now, "video": video()}), ReasonMalformed},
		{"neither iat nor nbf: no end to count from", lk(m{"iss": lkKey, "sub": "a", "exp": now + 600, "video": video()}), ReasonMalformed},
		{"no iss", lk(m{"sub": "a", "nbf": now, "exp": now + 600, "video": video()}), ReasonWrongApp},
		{"the app's own id as iss", lk(m{"iss": "demo", "sub": "a", "nbf": now, "exp": now + 600, "video": video()}), ""},
		{"jti stands in for sub", lk(m{"iss": lkKey, "jti": "a", "nbf": now, "exp": now + 600, "video": video()}), ""},
		{"nobody", lk(m{"iss": lkKey, "nbf": now, "exp": now + 600, "video": video()}), ReasonWrongUser},
		{"identity claim alone", lk(m{"iss": lkKey, "identity": "a", "nbf": now, "exp": now + 600, "video": video()}), ReasonWrongUser},
		{"roomJoin absent", lk(m{"iss": lkKey, "sub": "a", "nbf": now, "exp": now + 600, "video": m{"room": "room-1"}}), ReasonNoJoin},
		{"another room", lk(m{"iss": lkKey, "sub": "a", "nbf": now, "exp": now + 600, "video": video("room", "room-2")}), ReasonWrongChannel},
		{"no room", lk(m{"iss": lkKey, "sub": "a", "nbf": now, "exp": now + 600, "video": m{"roomJoin": true}}), ReasonWrongChannel},
		{"HS512", forge(t, jwt.SigningMethodHS512, []byte(lkSecret), nil, m{"iss": lkKey, "sub": "a", "nbf": now, "exp": now + 600, "video": video()}), ReasonUnsupported},
		{"padded", l1 + "=", ReasonMalformed},
		{"claims of both kinds: LiveKit's rules decide", lk(m{"iss": lkKey, "sub": "a", "chan": "room-2", "can": []string{"subscribe"}, "iat": now, "exp": now + 600, "video": video()}), ""},
	} {
		if _, err := Verify(tc.tok, lkApp, "room-1", lkNow); ReasonOf(err) != tc.want {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
	if _, err := VerifyUser(l1, lkApp, "room-1", "bob", lkNow); ReasonOf(err) != ReasonWrongUser {
		t.Errorf("alice's token in bob's hands: %v", err)
	}
}

func TestLiveKitSourcesNarrowPublishing(t *testing.T) {
	now := lkNow.Unix()
	for _, tc := range []struct {
		video                           map[string]any
		audio, camera, data, subscribed bool
	}{
		{map[string]any{}, true, true, true, true},
		{map[string]any{"canPublishSources": []string{"microphone"}}, true, false, true, true},
		{map[string]any{"canPublishSources": []string{"screen_share"}}, false, true, true, true},
		{map[string]any{"canPublishSources": []string{"screen_share_audio"}, "canPublishData": false}, true, false, false, true},
		{map[string]any{"canPublishSources": []string{"something else"}}, false, false, true, true},
		{map[string]any{"canPublish": false, "canPublishSources": []string{"camera"}}, false, false, false, true},
		{map[string]any{"canPublish": false, "canPublishData": true, "canSubscribe": false}, false, false, true, false},
	} {
		tc.video["roomJoin"], tc.video["room"] = true, "room-1"
		tok := forge(t, jwt.SigningMethodHS256, []byte(lkSecret), nil, jwt.MapClaims{"iss": lkKey, "sub": "a", "nbf": now, "exp": now + 600, "video": tc.video})
		g, err := Verify(tok, lkApp, "room-1", lkNow)
		if err != nil || g.PublishAudio.IsZero() == tc.audio || g.PublishVideo.IsZero() == tc.camera ||
			g.PublishData.IsZero() == tc.data || g.Subscribe.IsZero() == tc.subscribed {
			t.Errorf("%v: granted %+v (%v)", tc.video, g, err)
		}
	}
}
