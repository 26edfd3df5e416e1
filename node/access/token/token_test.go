package token

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

var (
	jwtApp = App{ID: "demo", Certificates: []string{"primary", "secondary"}, Auth: AuthToken}
	jNow   = time.Unix(1700000000, 0)
)

// forge signs claims as they stand, with whatever method and key.
func forge(t testing.TB, method jwt.SigningMethod, key any, header map[string]any, c jwt.MapClaims) string {
	t.Helper()
	tok := jwt.NewWithClaims(method, c)
	for k, v := range header {
		tok.Header[k] = v
	}
	s, err := tok.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestJWT(t *testing.T) {
	iat, exp := jNow.Unix(), jNow.Unix()+3600
	good := jwt.MapClaims{"iss": "demo", "sub": "alice", "chan": "room", "iat": iat, "exp": exp, "can": []string{"publish_audio", "subscribe", "fly"}}
	with := func(changes ...any) jwt.MapClaims {
		c := jwt.MapClaims{}
		for k, v := range good {
			c[k] = v
		}
		for i := 0; i < len(changes); i += 2 {
			if c[changes[i].(string)] = changes[i+1]; changes[i+1] == nil {
				delete(c, changes[i].(string))
			}
		}
		return c
	}
	hs256 := func(c jwt.MapClaims) string { return forge(t, jwt.SigningMethodHS256, []byte("primary"), nil, c) }
	genuine := hs256(good)
	parts := strings.Split(genuine, ".")
	end := time.Unix(exp, 0)
	for _, tc := range []struct {
		name, tok string
		want      Reason
	}{
		{"good", genuine, ""},
		{"secondary certificate", forge(t, jwt.SigningMethodHS256, []byte("secondary"), nil, good), ""},
		{"every channel", hs256(with("chan", "*")), ""},
		{"nbf within the skew", hs256(with("nbf", iat+60)), ""},
		{"nbf ahead", hs256(with("nbf", iat+61)), ReasonNotYetValid},
		{"issued ahead", hs256(with("iat", iat+61)), ReasonNotYetValid},
		{"expired at this very second", hs256(with("iat", iat-10, "exp", iat)), ReasonExpired},
		{"25 hours", hs256(with("exp", iat+25*3600)), ReasonLifetime},
		{"24 hours", hs256(with("exp", iat+24*3600, "can", nil)), ""},
		{"no exp", hs256(with("exp", nil)), ReasonMalformed},
		{"no iat", hs256(with("iat", nil)), ReasonMalformed},
		{"exp beyond reason", hs256(with("exp", 1e300)), ReasonMalformed},
		{"exp of the wrong type", hs256(with("exp", "soon")), ReasonMalformed},
		{"no channel", hs256(with("chan", nil)), ReasonWrongChannel},
		{"another channel", hs256(with("chan", "room2")), ReasonWrongChannel},
		{"another app", hs256(with("iss", "other")), ReasonWrongApp},
		{"another key", forge(t, jwt.SigningMethodHS256, []byte("guess"), nil, good), ReasonBadSignature},
		{"the empty key", forge(t, jwt.SigningMethodHS256, []byte{}, nil, good), ReasonBadSignature},
		{"none", forge(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil, good), ReasonUnsupported},
		{"HS512", forge(t, jwt.SigningMethodHS512, []byte("primary"), nil, good), ReasonUnsupported},
		{"critical extension", forge(t, jwt.SigningMethodHS256, []byte("primary"), map[string]any{"crit": []string{"x"}}, good), ReasonUnsupported},
		{"signature cut off", parts[0] + "." + parts[1] + ".", ReasonBadSignature},
		{"padded", parts[0] + "=." + parts[1] + "." + parts[2], ReasonMalformed},
		{"dots alone", "..", ReasonMalformed},
		{"more than 4 KiB", hs256(with("note", strings.Repeat("x", 4096))), ReasonTooLarge},
	} {
		g, err := Verify(tc.tok, jwtApp, "room", jNow)
		if ReasonOf(err) != tc.want || (err == nil) != (tc.want == "") {
			t.Errorf("%s: %v, want reason %q", tc.name, err, tc.want)
		}
		if err == nil && (g.Channel != "room" || g.App != "demo" || g.User != "alice") {
			t.Errorf("%s: granted %+v", tc.name, g)
		}
	}
	g, _ := Verify(genuine, jwtApp, "room", jNow)
	if want := (Grant{App: "demo", Channel: "room", User: "alice", Join: end, PublishAudio: end, Subscribe: end}); g != want {
		t.Errorf("granted %+v, want %+v", g, want)
	}
	if _, err := VerifyUser(genuine, jwtApp, "room", "bob", jNow); !errors.Is(err, ReasonWrongUser) {
		t.Errorf("alice's token in bob's hands: %v", err)
	}
}

func TestEmptyCertificateIsNeverAKey(t *testing.T) {
	forged := forge(t, jwt.SigningMethodHS256, []byte{}, nil, jwt.MapClaims{"iss": "demo", "chan": "*", "iat": jNow.Unix(), "exp": jNow.Unix() + 60})
	for _, certs := range [][]string{nil, {""}, {"", ""}, {"primary", ""}, {"", "secondary"}} {
		if _, err := Verify(forged, App{ID: "demo", Certificates: certs, Auth: AuthToken}, "room", jNow); err == nil {
			t.Errorf("certificates %q admit a token signed with the empty key", certs)
		}
	}
}

func TestAppIDModeNeedsNoToken(t *testing.T) {
	open := App{ID: "demo", Auth: AuthAppID}
	g, err := Verify("", open, "room", jNow)
	if err != nil || g.rights(jNow.Add(MaxLifetime-1)) != 5 || g.rights(jNow.Add(MaxLifetime)) != 0 {
		t.Errorf("granted %+v (%v), want everything for 24 hours", g, err)
	}
}

func TestCreateMakesWhatVerifyAdmits(t *testing.T) {
	apps := map[string]App{Format007: app007, Format006: app006, FormatJWT: jwtApp, FormatLiveKit: lkApp}
	for format, app := range apps {
		for _, can := range [][]string{nil, {CanPublishAudio}, {CanPublishAudio, CanPublishVideo, CanPublishData, CanSubscribe}} {
			tok, err := Create(CreateOptions{Format: format, App: app.ID, Certificate: app.Certificates[0], Channel: "room", User: "u", Now: jNow, TTL: time.Hour, Can: can})
			if err != nil {
				t.Fatal(err)
			}
			g, err := VerifyUser(tok, app, "room", "u", jNow)
			leeway := time.Duration(0)
			if format == FormatLiveKit {
				leeway = clockSkew
			}
			if err != nil || g.User != "u" || !g.Join.Equal(jNow.Add(time.Hour+leeway)) {
				t.Errorf("%s: granted %+v (%v)", format, g, err)
			}
			for _, c := range can {
				if !g.field(c).Equal(g.Join) {
					t.Errorf("%s: %s not granted: %+v", format, c, g)
				}
			}
		}
	}
}

func TestCreateRefuses(t *testing.T) {
	good := CreateOptions{Format: Format007, App: vApp, Certificate: vCert, Channel: "c", Now: jNow, TTL: time.Hour}
	for name, change := range map[string]func(*CreateOptions){
		"format": func(o *CreateOptions) { o.Format = "008" }, "app": func(o *CreateOptions) { o.App = "" },
		"app of 007":         func(o *CreateOptions) { o.App = "Z70CA35de60c44645bbae8a215061b33" },
		"certificate":        func(o *CreateOptions) { o.Certificate = "" },
		"certificate of 007": func(o *CreateOptions) { o.Certificate = "abc" },
		"channel":            func(o *CreateOptions) { o.Channel = "" }, "channel *": func(o *CreateOptions) { o.Channel = "*" },
		"long channel": func(o *CreateOptions) { o.Channel = strings.Repeat("c", 64) },
		"long user":    func(o *CreateOptions) { o.User = strings.Repeat("c", 256) },
		"now":          func(o *CreateOptions) { o.Now = time.Time{} }, "ttl": func(o *CreateOptions) { o.TTL = 25 * time.Hour },
		"room token of 007": func(o *CreateOptions) { o.Session, o.ID, o.User = "s", "t", "u" },
		"room token, a day": func(o *CreateOptions) {
			o.Format, o.Session, o.ID, o.User, o.TTL = FormatJWT, "s", "t", "u", 24*time.Hour
		},
		"LiveKit for nobody": func(o *CreateOptions) { o.Format = FormatLiveKit },
		"right":              func(o *CreateOptions) { o.Can = []string{"fly"} }, "dry randomness": func(o *CreateOptions) { o.Rand = strings.NewReader("") },
	} {
		o := good
		change(&o)
		if tok, err := Create(o); err == nil {
			t.Errorf("%s: made %q", name, tok)
		} else if strings.Contains(err.Error(), vCert) {
			t.Errorf("%s: the error tells the certificate: %v", name, err)
		}
	}
}

func TestSaltComesFromTheGivenSource(t *testing.T) {
	o := CreateOptions{Format: Format007, App: vApp, Certificate: vCert, Channel: "c", Now: jNow, TTL: time.Hour}
	o.Rand = bytes.NewReader([]byte{1, 0, 0, 0})
	a, _ := Create(o)
	o.Rand = bytes.NewReader([]byte{1, 0, 0, 0})
	b, _ := Create(o)
	if a != b || a == "" {
		t.Error("the same randomness made two tokens")
	}
}

func TestInspect(t *testing.T) {
	o := InspectOptions{App: vApp, Certificates: []string{vCert}, Now: oNow}
	r := Inspect(o1, o)
	text, err := json.Marshal(r)
	const want = `{"format":"007","admitted":true,"reason":"","app":"970CA35de60c44645bbae8a215061b33","channel":"room-1","user":"alice",` +
		`"grants":{"join":1700003600,"publish_audio":1700003600,"publish_data":1700003600,"publish_video":1700003600,"subscribe":1700003600},"expires_at":1700003600}`
	if err != nil || string(text) != want {
		t.Errorf("report\n%s (%v), want\n%s", text, err, want)
	}
	o.Certificates = nil
	if r = Inspect(o1, o); r.Admitted || r.Reason != ReasonNoCertificate || r.Channel != "room-1" || len(r.Grants) != 5 {
		t.Errorf("without a certificate: %+v", r)
	}
	o.Certificates, o.Channel = []string{vCert}, "room-2"
	if r = Inspect(o1, o); r.Admitted || r.Reason != ReasonWrongChannel || r.User != "alice" {
		t.Errorf("for another channel: %+v", r)
	}
	tok, _ := Create(CreateOptions{Format: FormatJWT, App: "demo", Certificate: "primary", Channel: "*", Now: jNow, TTL: time.Hour, Can: []string{CanSubscribe}})
	if r = Inspect(tok, InspectOptions{Certificates: []string{"primary"}, Now: jNow}); !r.Admitted || r.Format != FormatJWT || r.Channel != "*" || r.App != "demo" {
		t.Errorf("JWT for every channel: %+v", r)
	}
	if r = Inspect("rubbish", o); r.Admitted || r.Reason != ReasonUnsupported || r.Format != "" {
		t.Errorf("rubbish: %+v", r)
	}
}

func TestStatusTellsAForgerNothing(t *testing.T) {
	forbidden := map[Reason]bool{ReasonWrongChannel: true, ReasonWrongUser: true, ReasonNoJoin: true, ReasonNoService: true, ReasonNotGranted: true, ReasonLifetime: true}
	for _, r := range []Reason{ReasonMissing, ReasonAuthMode, ReasonTooLarge, ReasonUnsupported, ReasonMalformed, ReasonWrongApp, ReasonNoCertificate,
		ReasonBadSignature, ReasonNotYetValid, ReasonExpired, ReasonLifetime, ReasonNoService, ReasonWrongChannel, ReasonWrongUser, ReasonNoJoin, ReasonNotGranted} {
		if got := r.Status(); (got == 403) != forbidden[r] || (got == 401) == forbidden[r] {
			t.Errorf("%s answers %d", r, got)
		}
	}
}

// hostile is the costliest 64 KiB that an attacker can send per format.
func hostile() map[string]string {
	r := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 48<<10)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	bomb, _ := pack007(make([]byte, 2<<20)) // about 2.7 KiB: passes the size cap
	return map[string]string{
		"007-noise": "007" + base64.StdEncoding.EncodeToString(noise)[:64<<10],
		"jwt-dots":  strings.Repeat(".", 64<<10),
		"jwt-noise": "eyJ." + base64.RawURLEncoding.EncodeToString(noise)[:64<<10] + ".x",
		"bomb":      bomb,
	}
}

func TestHostileTokensAllocateLittle(t *testing.T) {
	for name, tok := range hostile() {
		const rounds = 50
		_, _ = Verify(tok, app007, "c", vNow) // the reusable reader is made once, not per token
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range rounds {
			if _, err := Verify(tok, app007, "c", vNow); err == nil {
				t.Fatalf("%s: admitted", name)
			}
		}
		runtime.ReadMemStats(&after)
		if each := (after.TotalAlloc - before.TotalAlloc) / rounds; each > 32<<10 {
			t.Errorf("%s: %d B allocated per token, at most 32 KiB", name, each)
		}
	}
}

func BenchmarkVerify007(b *testing.B) {
	for b.Loop() {
		if _, err := Verify(o1, app007, "room-1", oNow); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyJWT(b *testing.B) {
	tok, _ := Create(CreateOptions{Format: FormatJWT, App: "demo", Certificate: "primary", Channel: "room", User: "u", Now: jNow, TTL: time.Hour, Can: []string{CanPublishAudio, CanPublishVideo, CanSubscribe}})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Verify(tok, jwtApp, "room", jNow); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyHostile(b *testing.B) {
	for name, tok := range hostile() {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = Verify(tok, app007, "c", vNow)
			}
		})
	}
}

// FuzzVerify: no panic, and nothing is admitted that the signer did not sign.
func FuzzVerify(f *testing.F) {
	for _, s := range []string{t1Go, t1Python, t2Go, t3, t4, t5, t6, o1, t1FlippedSignature, t1RaisedExpire, "", "00", "007", "006invalid", "a.b.c", ".."} {
		f.Add(s)
	}
	for name, tok := range hostile() {
		if name != "bomb" {
			tok = tok[:5000]
		}
		f.Add(tok)
	}
	f.Fuzz(func(t *testing.T, tok string) {
		for _, app := range []App{app007, jwtApp} {
			g, err := Verify(tok, app, vChannel, vNow)
			if (err == nil) == (ReasonOf(err) != "") {
				t.Fatalf("error %v wraps no reason", err)
			}
			if err == nil && (g.App != app.ID || g.Channel != vChannel || g.Join.After(vNow.Add(MaxLifetime+clockSkew))) {
				t.Fatalf("granted %+v", g)
			}
		}
		_ = Inspect(tok, InspectOptions{Certificates: []string{vCert}, Now: vNow})
	})
}

// FuzzParse007 goes beneath base64 and zlib, where a fuzzer rarely gets by itself.
func FuzzParse007(f *testing.F) {
	for _, tok := range []string{t1Go, t3, t4, t5, t6, o1} {
		packed, _ := base64.StdEncoding.DecodeString(tok[3:])
		raw, err := inflate(packed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := parse007(raw)
		if err == nil && (len(c.signature) != sigSize || len(c.body) > len(raw)) {
			t.Fatalf("parsed %+v from %x", c, raw)
		}
	})
}
