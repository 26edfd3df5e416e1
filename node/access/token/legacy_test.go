package token

import (
	"encoding/hex"
	"hash/crc32"
	"strings"
	"testing"
	"time"
)

const (
	old1   = "006970CA35de60c44645bbae8a215061b33IACV0fZUBw+72cVoL9eyGGh3Q6Poi8bgjwVLnyKSJyOXR7dIfRBXoFHlEAABAAAAR/QQAAEAAQCvKDdW"
	oldAny = "006970CA35de60c44645bbae8a215061b33IACw1o7htY6ISdNRtku3p9tjTPi0jCKf9t49UHJhzCmL6bdIfRAAAAAAEAABAAAAR/QQAAEAAQCvKDdW"

	// The weakness: two meanings of one signature.
	oldRoom1  = "006970CA35de60c44645bbae8a215061b33IAB7DMZlB9i/qbcvsvad3duWpe64lOSxHoSVWs3D6YhWYyo6c+SYJ3kTEAABAAAAR/QQAAEAAQCvKDdW"
	oldRoom12 = "006970CA35de60c44645bbae8a215061b33IAB7DMZlB9i/qbcvsvad3duWpe64lOSxHoSVWs3D6YhWY+EEisGbjtJtEAABAAAAR/QQAAEAAQCvKDdW"
)

var (
	app006 = App{ID: vApp, Certificates: []string{vCert}, Auth: AuthToken, Legacy006: true}
	end006 = time.Unix(1111111, 0)
	now006 = end006.Add(-time.Hour)
)

func Test006VectorsWhereThePolicyAllowsThem(t *testing.T) {
	want := Grant{App: vApp, Channel: vChannel, User: vUser, Join: end006, Subscribe: end006}
	if got, err := VerifyUser(old1, app006, vChannel, vUser, now006); err != nil || got != want {
		t.Errorf("granted %+v (%v), want %+v", got, err, want)
	}
	for _, user := range []string{"", "anyone"} {
		want.User = user
		if got, err := VerifyUser(oldAny, app006, vChannel, user, now006); err != nil || got != want {
			t.Errorf("anybody's token for %q: granted %+v (%v)", user, got, err)
		}
	}
	if Core(old1) == Core(oldAny) || Core(old1) == "" {
		t.Error("two tokens have one core")
	}
	c, err := decode006(old1)
	if err != nil || c.channelSum != 0x107d48b7 || c.userSum != 0xe551a057 || hex.EncodeToString([]byte(c.message)) != "0100000047f4100001000100af283756" {
		t.Errorf("parsed %+v (%v)", c, err)
	}
	if crc32.ChecksumIEEE(nil) != 0 {
		t.Error("crc32 of nothing is not 0")
	}
}

func Test006IsRefused(t *testing.T) {
	off := app006
	off.Legacy006 = false
	for _, tc := range []struct {
		name, tok     string
		app           App
		channel, user string
		now           time.Time
		want          Reason
	}{
		{"by default", old1, off, vChannel, vUser, now006, ReasonUnsupported},
		{"for another channel", old1, app006, "other", vUser, now006, ReasonWrongChannel},
		{"for another user", old1, app006, vChannel, "2882341274", now006, ReasonWrongUser},
		{"for nobody in particular", old1, app006, vChannel, "", now006, ReasonWrongUser},
		{"at its end", old1, app006, vChannel, vUser, end006, ReasonExpired},
		{"when it would live too long", old1, app006, vChannel, vUser, end006.Add(-25 * time.Hour), ReasonLifetime},
		{"with another certificate", old1, App{ID: vApp, Certificates: []string{strings.Repeat("a", 32)}, Auth: AuthToken, Legacy006: true}, vChannel, vUser, now006, ReasonBadSignature},
		{"without a certificate", old1, App{ID: vApp, Auth: AuthToken, Legacy006: true}, vChannel, vUser, now006, ReasonNoCertificate},
		{"at another app", old1, App{ID: strings.ToLower(vApp), Certificates: []string{vCert}, Auth: AuthToken, Legacy006: true}, vChannel, vUser, now006, ReasonWrongApp},
		{"cut short", old1[:len(old1)-4], app006, vChannel, vUser, now006, ReasonMalformed},
		{"with bytes behind", old1 + "AAAA", app006, vChannel, vUser, now006, ReasonMalformed},
		{"without content", "006" + vApp, app006, vChannel, vUser, now006, ReasonMalformed},
		{"with half an app id", "006970C", app006, vChannel, vUser, now006, ReasonMalformed},
		{"with a line break", old1[:60] + "\n" + old1[60:], app006, vChannel, vUser, now006, ReasonMalformed},
	} {
		if _, err := VerifyUser(tc.tok, tc.app, tc.channel, tc.user, tc.now); ReasonOf(err) != tc.want {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
}

// The format's own weakness, written down: it is why 006 is off by default.
func Test006SignatureDoesNotTellChannelFromUser(t *testing.T) {
	for tok, of := range map[string][2]string{oldRoom1: {"room1", "23"}, oldRoom12: {"room12", "3"}} {
		if _, err := VerifyUser(tok, app006, of[0], of[1], now006); err != nil {
			t.Errorf("%v: %v", of, err)
		}
	}
}

func Test006PrivilegesEndWithTheToken(t *testing.T) {
	c := content006{appID: vApp, expires: 1000, privileges: []privilege{{privJoin, 0}, {privPublishAudio, 500}, {privPublishVideo, 5000}, {101, 0}}}
	want := Grant{App: vApp, Channel: "c", Join: time.Unix(1000, 0), Subscribe: time.Unix(1000, 0), PublishAudio: time.Unix(500, 0), PublishVideo: time.Unix(1000, 0)}
	if g := c.expiries("c", ""); g != want {
		t.Errorf("granted %+v, want %+v", g, want)
	}
}

func FuzzParse006(f *testing.F) {
	for _, tok := range []string{old1, oldAny, oldRoom1, "006", "006" + vApp} {
		f.Add(tok)
	}
	f.Fuzz(func(t *testing.T, tok string) {
		if g, err := VerifyUser(tok, app006, vChannel, vUser, now006); err == nil && (g.App != vApp || g.Join.After(now006.Add(MaxLifetime+clockSkew))) {
			t.Fatalf("granted %+v", g)
		}
	})
}
