package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// The keys of RFC 7515 A.3 (P-256) and RFC 8037 A.2 (Ed25519), public parts.
const rfcKeys = `{"keys":[
 {"kty":"EC","crv":"P-256","kid":"ec","use":"sig","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},
 {"kty":"OKP","crv":"Ed25519","kid":"ed","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
 {"kty":"RSA","kid":"rsa","n":"AQAB","e":"AQAB"},
 {"kty":"EC","crv":"P-256","use":"enc","x":"?","y":"?"}]}`

func TestKeySetTakesWhatItCanUse(t *testing.T) {
	keys, err := ParseKeySet([]byte(rfcKeys))
	if err != nil || len(keys) != 2 || keys[0].ID != "ec" || keys[1].ID != "ed" ||
		algorithmOf(keys[0].Public) != algES256 || algorithmOf(keys[1].Public) != algEdDSA {
		t.Fatalf("%+v (%v)", keys, err)
	}
	// RFC 8037 A.4: a signature that others made.
	const jws = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
	sig, _ := segment.DecodeString("hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg")
	if err := (header{Alg: algEdDSA}).checkPublic(jws, sig, keys); err != nil {
		t.Errorf("the RFC's EdDSA signature: %v", err)
	}
	if err := (header{Alg: algEdDSA, Key: "ec"}).checkPublic(jws, sig, keys); ReasonOf(err) != ReasonUnknownKey {
		t.Errorf("under the name of a key of another kind: %v", err)
	}
}

func TestKeySetRefuses(t *testing.T) {
	for name, doc := range map[string]string{
		"nothing": "", "no object": "[]", "no usable key": `{"keys":[{"kty":"RSA"}]}`, "no keys": "{}",
		"a private key":    `{"keys":[{"kty":"OKP","crv":"Ed25519","d":"x","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`,
		"a short key":      `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AAAA"}]}`,
		"a point off P256": `{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"}]}`,
		"65 keys":          `{"keys":[` + strings.Repeat(`{"kty":"RSA"},`, 64) + `{"kty":"RSA"}]}`,
		"too long":         `{"keys":[` + strings.Repeat(" ", MaxKeySetBytes) + `]}`,
	} {
		if keys, err := ParseKeySet([]byte(doc)); err == nil {
			t.Errorf("%s: read as %+v", name, keys)
		}
	}
}

// pair is a private key with its public half as PEM and as a key set.
type pair struct {
	signer  crypto.Signer
	private []byte
	public  []byte
}

func pairs(t testing.TB) map[string]pair {
	t.Helper()
	ec, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, ed, err2 := ed25519.GenerateKey(rand.Reader)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	out := map[string]pair{}
	for alg, s := range map[string]crypto.Signer{algES256: ec, algEdDSA: ed} {
		der, err := x509.MarshalPKCS8PrivateKey(s)
		pub, err2 := x509.MarshalPKIXPublicKey(s.Public())
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		out[alg] = pair{s, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pub})}
	}
	return out
}

func TestPublicKeysCheckTokensOfTheirOwnKindOnly(t *testing.T) {
	all := pairs(t)
	for alg, p := range all {
		signer, err := ParseSigner(p.private)
		if err != nil {
			t.Fatal(err)
		}
		keys, err := ParsePublicKeys(p.public)
		if err != nil {
			t.Fatal(err)
		}
		tok, err := Create(CreateOptions{Format: FormatJWT, App: "demo", Signer: signer, KeyID: "k1", Channel: "room", User: "u", Now: jNow, TTL: time.Hour, Can: []string{CanSubscribe}})
		if err != nil {
			t.Fatal(err)
		}
		app := App{ID: "demo", Auth: AuthToken, Keys: keys}
		if g, err := Verify(tok, app, "room", jNow); err != nil || g.User != "u" || g.Subscribe.IsZero() {
			t.Errorf("%s: granted %+v (%v)", alg, g, err)
		}
		if signed, _ := cutLast(tok); Core(tok) != signed {
			t.Errorf("%s: the core of a token depends on how its signature is written", alg)
		}
		app.Keys[0].ID = "k2"
		if _, err := Verify(tok, app, "room", jNow); ReasonOf(err) != ReasonUnknownKey {
			t.Errorf("%s: key id that the set does not have: %v", alg, err)
		}
		other := pairs(t)[alg]
		app.Keys = []Key{{ID: "k1", Public: other.signer.Public()}}
		if _, err := Verify(tok, app, "room", jNow); ReasonOf(err) != ReasonBadSignature {
			t.Errorf("%s: another key under the same id: %v", alg, err)
		}
		// Rotation: old and new key stand in the set side by side.
		app.Keys = []Key{{ID: "k2", Public: other.signer.Public()}, {ID: "k1", Public: p.signer.Public()}}
		if _, err := Verify(tok, app, "room", jNow); err != nil {
			t.Errorf("%s: during a rotation: %v", alg, err)
		}
		// The classic: the public key's own text as an HMAC secret.
		forged := forge(t, jwt.SigningMethodHS256, p.public, nil, jwt.MapClaims{"iss": "demo", "chan": "room", "iat": jNow.Unix(), "exp": jNow.Unix() + 60})
		if _, err := Verify(forged, app, "room", jNow); ReasonOf(err) != ReasonNoCertificate {
			t.Errorf("%s: HS256 with the public key: %v", alg, err)
		}
	}
	if _, err := ParseSigner([]byte("secret")); err == nil {
		t.Error("a secret is read as a private key")
	}
}

func TestRoomTokens(t *testing.T) {
	room := App{ID: "demo", Certificates: []string{"primary"}, Auth: AuthToken, RoomTokens: true, Issuers: []string{lkKey}}
	iat := jNow.Unix()
	good := jwt.MapClaims{"iss": "demo", "sub": "alice", "chan": "room", "iat": iat, "exp": iat + 600, "sid": "s1", "jti": "t1", "can": []string{"subscribe"}}
	with := func(key string, v any) string {
		c := jwt.MapClaims{}
		for k, v := range good {
			c[k] = v
		}
		if c[key] = v; v == nil {
			delete(c, key)
		}
		return forge(t, jwt.SigningMethodHS256, []byte("primary"), nil, c)
	}
	g, err := Verify(with("sid", "s1"), room, "room", jNow)
	if err != nil || g.Session != "s1" || g.ID != "t1" {
		t.Fatalf("granted %+v (%v)", g, err)
	}
	for _, tc := range []struct {
		name, tok string
		want      Reason
	}{
		{"no session", with("sid", nil), ReasonMalformed}, {"no id", with("jti", nil), ReasonMalformed},
		{"no user", with("sub", nil), ReasonMalformed}, {"every channel", with("chan", "*"), ReasonMalformed},
		{"15 minutes", with("exp", iat+900), ""}, {"15 minutes and a second", with("exp", iat+901), ReasonLifetime},
		{"LiveKit", with("video", map[string]any{"roomJoin": true, "room": "room"}), ReasonUnsupported},
		{"007", t1Go, ReasonUnsupported}, {"006", old1, ReasonUnsupported},
	} {
		if _, err := Verify(tc.tok, room, "room", jNow); ReasonOf(err) != tc.want {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
	room.RoomTokens = false
	if g, _ := Verify(with("sid", "s1"), room, "room", jNow); g.Session != "" || g.ID != "" {
		t.Errorf("an app that does not ask for room tokens binds nothing: %+v", g)
	}
}

func TestDisabledAndBannedAreToldToGenuineTokensOnly(t *testing.T) {
	tok, _ := Create(CreateOptions{Format: FormatJWT, App: "demo", Certificate: "primary", Channel: "room", User: "mallory", Now: jNow, TTL: time.Hour})
	app := jwtApp
	app.Banned = []string{"mallory"}
	if _, err := Verify(tok, app, "room", jNow); ReasonOf(err) != ReasonBanned {
		t.Errorf("banned: %v", err)
	}
	app.Disabled = true
	if _, err := Verify(tok, app, "room", jNow); ReasonOf(err) != ReasonDisabled {
		t.Errorf("disabled: %v", err)
	}
	if _, err := Verify(tok+"x", app, "room", jNow); ReasonOf(err).Status() != 401 {
		t.Errorf("a forger learns of it: %v", err)
	}
	open := App{ID: "demo", Auth: AuthAppID, Banned: []string{"mallory"}}
	if _, err := VerifyUser("", open, "room", "mallory", jNow); ReasonOf(err) != ReasonBanned {
		t.Errorf("banned, without tokens: %v", err)
	}
}

func FuzzKeySet(f *testing.F) {
	f.Add([]byte(rfcKeys))
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}`))
	for _, p := range pairs(f) {
		f.Add(p.public)
		f.Add(p.private)
	}
	sig := make([]byte, 64)
	f.Fuzz(func(t *testing.T, doc []byte) {
		keys, err := ParsePublicKeys(doc)
		if (err == nil) != (len(keys) > 0) {
			t.Fatalf("%d keys and %v", len(keys), err)
		}
		for _, k := range keys {
			alg := algorithmOf(k.Public)
			if alg == "" {
				t.Fatalf("a key of no use was kept: %T", k.Public)
			}
			if (header{Alg: alg}).checkPublic("x.y", sig, keys) == nil {
				t.Fatal("a signature of zeros verifies")
			}
		}
	})
}

func TestInspectShowsEveryFormat(t *testing.T) {
	type row struct {
		tok             string
		o               InspectOptions
		format, channel string
		admitted        bool
		reason          Reason
	}
	ed := pairs(t)[algEdDSA]
	keys, _ := ParsePublicKeys(ed.public)
	signed, _ := Create(CreateOptions{Format: FormatJWT, App: "demo", Signer: ed.signer, Channel: "room", Now: jNow, TTL: time.Hour})
	for name, r := range map[string]row{
		"LiveKit":            {l1, InspectOptions{App: lkKey, Certificates: []string{lkSecret}, Now: lkNow}, FormatLiveKit, "room-1", true, ""},
		"LiveKit, no secret": {l1, InspectOptions{Now: lkNow}, FormatLiveKit, "room-1", false, ReasonNoCertificate},
		"006":                {old1, InspectOptions{Certificates: []string{vCert}, Channel: vChannel, User: vUser, Now: now006}, Format006, vChannel, true, ""},
		"006, no channel":    {old1, InspectOptions{Certificates: []string{vCert}, Now: now006}, Format006, "", false, ReasonWrongChannel},
		"EdDSA":              {signed, InspectOptions{Keys: keys, Now: jNow}, FormatJWT, "room", true, ""},
		"EdDSA, no key":      {signed, InspectOptions{Now: jNow}, FormatJWT, "room", false, ReasonUnknownKey},
		"as a room token":    {signed, InspectOptions{Keys: keys, Room: true, Now: jNow}, FormatJWT, "room", false, ReasonMalformed},
	} {
		got := Inspect(r.tok, r.o)
		if got.Format != r.format || got.Channel != r.channel || got.Admitted != r.admitted || got.Reason != r.reason || len(got.Grants) == 0 {
			text, _ := json.Marshal(got)
			t.Errorf("%s: %s", name, text)
		}
	}
}

func BenchmarkVerifyPublic(b *testing.B) {
	for alg, p := range pairs(b) {
		tok, err := Create(CreateOptions{Format: FormatJWT, App: "demo", Signer: p.signer, Channel: "room", Now: jNow, TTL: time.Hour})
		if err != nil {
			b.Fatal(err)
		}
		app := App{ID: "demo", Auth: AuthToken, Keys: []Key{{Public: p.signer.Public()}}}
		b.Run(alg, func(b *testing.B) {
			for b.Loop() {
				if _, err := Verify(tok, app, "room", jNow); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
