package token

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"
)

const (
	vApp     = "970CA35de60c44645bbae8a215061b33"
	vCert    = "5CFd2fd1755d40ecb72977518be15d3b"
	vChannel = "7d72365eb983485397e3e3f9d460bdda"
	vUser    = "2882341273"

	t1Go     = "007eJxSYBBbsMMnKq7p9Hf/HcIX5kce9b518kCiQgSr5Zrp4X1Tu6UUGCzNDZwdjU1TUs0Mkk1MzExMk5ISUy0SjQxNDcwMk4yN3b8IMEQwMTAwMoAwBIL4CgzmKeZGxmamqUmWFsYmFqbGluapxqnGaZYpJmYGSSkpiVwMRhYWRsYmhkbmxoAAAAD//8JqJOM="
	t1Python = "007eJxTYBBbsMMnKq7p9Hf/HcIX5kce9b518kCiQgSr5Zrp4X1Tu6UUGCzNDZwdjU1TUs0Mkk1MzExMk5ISUy0SjQxNDcwMk4yN3b8IMEQwMTAwMoAwBIL4CgzmKeZGxmamqUmWFsYmFqbGluapxqnGaZYpJmYGSSkpiVwMRhYWRsYmhkbmxgDCaiTj"
	t2Go     = "007eJxSYLhzZP08Lxa1Pg57+TcXb/3cZ3wi4V6kbpbOog0G2dOYk20UGCzNDZwdjU1TUs0Mkk1MzExMk5ISUy0SjQxNDcwMk4yN3b8IMEQwMTAwMoAwBIL4CgzmKeZGxmamqUmWFsYmFqbGluapxqnGaZYpJmYGSSkpiQwMgAAAAP//Npwiag=="
	t2Python = "007eJxTYLhzZP08Lxa1Pg57+TcXb/3cZ3wi4V6kbpbOog0G2dOYk20UGCzNDZwdjU1TUs0Mkk1MzExMk5ISUy0SjQxNDcwMk4yN3b8IMEQwMTAwMoAwBIL4CgzmKeZGxmamqUmWFsYmFqbGluapxqnGaZYpJmYGSSkpiQwMADacImo="
	t3       = "007eJxTYOAQsrQ5s3TfH+1tvy8zZZ46EpCc0V43JXdGd2jS8porKo4KDJbmBs6OxqYpqWYGySYmZiamSUmJqRaJRoamBmaGScbG7l8EGCKYGBgYGRgYmIAkCxCD+ExgkhlMsoBJBQbzFHMjYzPT1CRLC2MTC1NjS/NU41TjNMsUEzODpJSURC4GIwsLI2MTQyNzY5BZEJM4GUpSi0viS4tTiwAipyp4"
	t4       = "007eJxSYOCdJftjyTM2zxW6Xhm/5T0j5LdcUt/xYVt48fb5Mp3PX9coMFiaGzg7GpumpJoZJJuYmJmYJiUlplokGhmaGpgZJhkbu38RYIhgYmBgZABhJgZGBkYwn5OhJLW4JL60OLUIEAAA//9ZVh6A"
	t5       = "007eJxTYNAIsnbS3v/A5t2TC6feR15r+6cq8bqAvfaW+tk/Vzz+p6xTYLA0N3B2NDZNSTUzSDYxMTMxTUpKTLVINDI0NTAzTDI2dv8iwBDBxMDAyADCrEDMCOZzMRhZWBgZmxgamRsDAB+lHrg="
	t6       = "007eJxTYNDNaz3snC8huEfHWdz6s98qltq4zqy9fl99Uh0FDvy6F6DAYGlu4OxobJqSamaQbGJiZmKalJSYapFoZGhqYGaYZGzs/kWAIYKJgYGRAYRZgZgJzGdgAACt8hhr"
	o1       = "007eJxTYPiZ8n2b3em3ylxr1Hcs52L6+fDHV98y9uVKH7m/KTj94rdSYLA0N3B2NDZNSTUzSDYxMTMxTUpKTLVINDI0NTAzTDI2ZvgYnCrAx8Dgl7iHgREIWYAYxGcCk8xgkgVMsjEU5efn6hqyMiTmZCanAgBA1CC6"

	t1FlippedSignature = "007eJxTYBBfsMMnKq7p9Hf/HcIX5kce9b518kCiQgSr5Zrp4X1Tu6UUGCzNDZwdjU1TUs0Mkk1MzExMk5ISUy0SjQxNDcwMk4yN3b8IMEQwMTAwMoAwBIL4CgzmKeZGxmamqUmWFsYmFqbGluapxqnGaZYpJmYGSSkpiVwMRhYWRsYmhkbmxgDC8iTk"
	t1RaisedExpire     = "007eJxTYBBbsMMnKq7p9Hf/HcIX5kce9b518kCiQgSr5Zrp4X1Tu6UUGCzNDZwdjU1TUs0Mkk1MzExMk5ISUy0SjQxNDcwMk4yN3b8IMDQEMjIwMjAwMEJhBBMDgwKDeYq5kbGZaWqSpYWxiYWpsaV5qnGqcZpliomZQVJKSiIXg5GFhZGxiaGRuTEA4QklWw=="
)

var (
	vIssued = time.Unix(1111111, 0)
	vNow    = vIssued.Add(time.Minute)
	oNow    = time.Unix(1700000000, 0).Add(time.Minute)
	app007  = App{ID: vApp, Certificates: []string{vCert}, Auth: AuthToken}
)

func TestVectorsGrantWhatTheirBuildersWrote(t *testing.T) {
	end := vIssued.Add(600 * time.Second)
	oEnd := time.Unix(1700003600, 0)
	for _, tc := range []struct {
		name, tok, channel string
		now                time.Time
		want               Grant
	}{
		{"T1 from Go", t1Go, vChannel, vNow, Grant{App: vApp, Channel: vChannel, User: vUser, Join: end, Subscribe: end}},
		{"T1 from Python", t1Python, vChannel, vNow, Grant{App: vApp, Channel: vChannel, User: vUser, Join: end, Subscribe: end}},
		{"T2 anybody, from Go", t2Go, vChannel, vNow, Grant{App: vApp, Channel: vChannel, Join: end, Subscribe: end}},
		{"T2 anybody, from Python", t2Python, vChannel, vNow, Grant{App: vApp, Channel: vChannel, Join: end, Subscribe: end}},
		{"T3 RTC and RTM", t3, vChannel, vNow, Grant{App: vApp, Channel: vChannel, User: vUser, Join: end, PublishAudio: end, PublishVideo: end, PublishData: end, Subscribe: end}},
		{"O1", o1, "room-1", oNow, Grant{App: vApp, Channel: "room-1", User: "alice", Join: oEnd, PublishAudio: oEnd, PublishVideo: oEnd, PublishData: oEnd, Subscribe: oEnd}},
	} {
		got, err := Verify(tc.tok, app007, tc.channel, tc.now)
		if err != nil || got != tc.want {
			t.Errorf("%s: granted %+v (%v), want %+v", tc.name, got, err, tc.want)
		}
	}
}

func TestTokensWithoutRTCAreGenuineButAdmitNobody(t *testing.T) {
	for name, tc := range map[string]struct {
		tok  string
		kind uint16
		user string
	}{
		"T4 RTM": {t4, serviceRTM, "test_user"}, "T5 chat user": {t5, serviceChat, vUser}, "T6 chat app": {t6, serviceChat, ""},
	} {
		c, err := decode007(tc.tok)
		if err != nil || len(c.services) != 1 || c.services[0].kind != tc.kind || c.services[0].user != tc.user {
			t.Errorf("%s: parsed %+v (%v)", name, c, err)
		}
		if err := c.authentic(app007); err != nil {
			t.Errorf("%s: signature does not verify: %v", name, err)
		}
		if _, err := Verify(tc.tok, app007, vChannel, vNow); !errors.Is(err, ReasonNoService) {
			t.Errorf("%s: refused with %v, want %q", name, err, ReasonNoService)
		}
	}
}

func TestT1BytesAndKeys(t *testing.T) {
	c, err := decode007(t1Go)
	if err != nil {
		t.Fatal(err)
	}
	const sig = "16a0b84c5a5e82cbf74fb813d09f59c54bdac9c06120580539ac97578e958b1a"
	const body = "2000393730434133356465363063343436343562626165386132313530363162333347f410005802000001000000010001000100010058020000200037643732333635656239383334383533393765336533663964343630626464610a0032383832333431323733"
	if got := hex.EncodeToString(c.signature); got != sig {
		t.Errorf("signature %s, want %s", got, sig)
	}
	if got := hex.EncodeToString(c.body); got != body {
		t.Errorf("body %s, want %s", got, body)
	}
	if got := hex.EncodeToString(mac([]byte{0x47, 0xf4, 0x10, 0}, []byte(vCert))); got != "e0f6141e54329d72102500478ec18e0020a5eeef53bbcccc442c6c2f7f178251" {
		t.Errorf("first derived key is %s", got)
	}
}

// retokened packs raw content with a compressor, after f changed it.
func retokened(t testing.TB, tok string, f func(raw []byte) []byte) string {
	t.Helper()
	packed, err := base64.StdEncoding.DecodeString(tok[3:])
	if err != nil {
		t.Fatal(err)
	}
	raw, err := inflate(packed)
	if err != nil {
		t.Fatal(err)
	}
	out, err := pack007(f(raw))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestNegatives(t *testing.T) {
	appended := retokened(t, t1Go, func(raw []byte) []byte { return append(raw, 0) })
	shortSig := retokened(t, t1Go, func(raw []byte) []byte { return append([]byte{31, 0}, raw[3:]...) })
	bomb := func() string {
		tok, err := pack007(make([]byte, 2<<20))
		if err != nil {
			t.Fatal(err)
		}
		return tok
	}()
	urlSafe := strings.NewReplacer("+", "-", "/", "_").Replace(t1Go)
	other := App{ID: strings.ToLower(vApp), Certificates: []string{vCert}, Auth: AuthToken}
	aaa := App{ID: vApp, Certificates: []string{strings.Repeat("a", 32)}, Auth: AuthToken}
	for _, tc := range []struct {
		name, tok string
		app       App
		channel   string
		now       time.Time
		want      Reason
	}{
		{"no token", "", app007, vChannel, vNow, ReasonMissing},
		{"00", "00", app007, vChannel, vNow, ReasonUnsupported},
		{"006", "006invalid", app007, vChannel, vNow, ReasonUnsupported},
		{"prefix alone", "007", app007, vChannel, vNow, ReasonMalformed},
		{"not zlib", "007aW52YWxpZA==", app007, vChannel, vNow, ReasonMalformed},
		{"truncated", t1Go[:len(t1Go)-24], app007, vChannel, vNow, ReasonMalformed},
		{"url-safe alphabet", urlSafe, app007, vChannel, vNow, ReasonMalformed},
		{"missing padding", strings.TrimRight(t1Go, "="), app007, vChannel, vNow, ReasonMalformed},
		{"leading space", " " + t1Go, app007, vChannel, vNow, ReasonUnsupported},
		{"line break inside", t1Go[:40] + "\n" + t1Go[40:], app007, vChannel, vNow, ReasonMalformed},
		{"signature of 31 bytes", shortSig, app007, vChannel, vNow, ReasonMalformed},
		{"inflates to 2 MiB", bomb, app007, vChannel, vNow, ReasonMalformed},
		{"64 KiB", "007" + strings.Repeat("A", 64<<10), app007, vChannel, vNow, ReasonTooLarge},
		{"signature bit flipped", t1FlippedSignature, app007, vChannel, vNow, ReasonBadSignature},
		{"expiry raised", t1RaisedExpire, app007, vChannel, vNow, ReasonBadSignature},
		{"byte after the last service", appended, app007, vChannel, vNow, ReasonBadSignature},
		{"wrong certificate", t1Go, aaa, vChannel, vNow, ReasonBadSignature},
		{"another app", t1Go, other, vChannel, vNow, ReasonWrongApp},
		{"app without a certificate", t1Go, App{ID: vApp, Auth: AuthToken, Certificates: []string{""}}, vChannel, vNow, ReasonNoCertificate},
		{"unknown auth mode", t1Go, App{ID: vApp, Auth: "none", Certificates: []string{vCert}}, vChannel, vNow, ReasonAuthMode},
		{"expired, at the very second", t1Go, app007, vChannel, vIssued.Add(600 * time.Second), ReasonExpired},
		{"issued 61 s ahead", t1Go, app007, vChannel, vIssued.Add(-61 * time.Second), ReasonNotYetValid},
		{"another channel", t1Go, app007, "7d72365eb983485397e3e3f9d460bddb", vNow, ReasonWrongChannel},
		{"no channel", t1Go, app007, "", vNow, ReasonWrongChannel},
	} {
		_, err := Verify(tc.tok, tc.app, tc.channel, tc.now)
		if got := ReasonOf(err); got != tc.want {
			t.Errorf("%s: refused with %q (%v), want %q", tc.name, got, err, tc.want)
		}
	}
	if _, err := Verify(t1Go, app007, vChannel, vIssued.Add(-60*time.Second)); err != nil {
		t.Errorf("a token issued 60 s ahead is refused: %v", err)
	}
}

func TestSecondaryCertificateAdmitsDuringARotation(t *testing.T) {
	rotating := App{ID: vApp, Certificates: []string{strings.Repeat("b", 32), vCert}, Auth: AuthToken}
	if _, err := Verify(t1Go, rotating, vChannel, vNow); err != nil {
		t.Errorf("token of the secondary certificate refused: %v", err)
	}
}

func TestUserIsTheTokensOrAnybody(t *testing.T) {
	for _, tc := range []struct {
		tok, user string
		want      Reason
	}{
		{t1Go, vUser, ""}, {t1Go, "", ""}, {t2Go, "anyone", ""}, {t2Go, "0", ""},
		{t1Go, "0", ReasonWrongUser}, {t1Go, "2882341274", ReasonWrongUser},
	} {
		if _, err := VerifyUser(tc.tok, app007, vChannel, tc.user, vNow); ReasonOf(err) != tc.want {
			t.Errorf("user %q with %.12s...: %v, want %q", tc.user, tc.tok, err, tc.want)
		}
	}
}

// signed builds a 007 token from hand-written services.
func signed(t testing.TB, issued, expire uint32, services ...[]byte) string {
	t.Helper()
	le := func(v uint32) []byte { return []byte{byte(v), byte(v >> 8), byte(v >> 16), byte(v >> 24)} }
	body := appendString(nil, vApp)
	body = append(append(append(body, le(issued)...), le(expire)...), le(7)...)
	body = append(body, byte(len(services)), 0)
	for _, s := range services {
		body = append(body, s...)
	}
	tok, err := pack007(append(appendString(nil, string(sign007(vCert, issued, 7, body))), body...))
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// rtcService writes one RTC service; privileges are pairs of id and seconds.
func rtcService(channel, user string, privileges ...uint32) []byte {
	b := []byte{serviceRTC, 0, byte(len(privileges) / 2), 0}
	for i := 0; i < len(privileges); i += 2 {
		v := privileges[i+1]
		b = append(b, byte(privileges[i]), 0, byte(v), byte(v>>8), byte(v>>16), byte(v>>24))
	}
	return appendString(appendString(b, channel), user)
}

func TestExpiriesOfPrivileges(t *testing.T) {
	at := func(s int) time.Time { return vIssued.Add(time.Duration(s) * time.Second) }
	for _, tc := range []struct {
		name   string
		expire uint32
		rtc    []byte
		want   Grant
		reason Reason
	}{
		{"join ends before publish", 600, rtcService("c", "", 1, 300, 2, 600, 3, 200), Grant{Join: at(300), Subscribe: at(300), PublishAudio: at(300), PublishVideo: at(200)}, ""},
		{"value 0 has no limit of its own", 600, rtcService("c", "", 1, 0, 3, 0), Grant{Join: at(600), Subscribe: at(600), PublishVideo: at(600)}, ""},
		{"24 hours at most", 0xffffffff, rtcService("c", "", 1, 0xffffffff), Grant{Join: at(86400), Subscribe: at(86400)}, ""},
		{"privilege beyond the token", 600, rtcService("c", "", 1, 900), Grant{Join: at(600), Subscribe: at(600)}, ""},
		{"publish without join", 600, rtcService("c", "", 2, 600), Grant{}, ReasonNoJoin},
		{"join expired", 600, rtcService("c", "", 1, 60, 2, 600), Grant{}, ReasonNoJoin},
		{"no channel in the service", 600, rtcService("", "", 1, 600), Grant{}, ReasonWrongChannel},
		{"one privilege twice", 600, rtcService("c", "", 1, 600, 1, 700), Grant{}, ReasonMalformed},
	} {
		got, err := Verify(signed(t, 1111111, tc.expire, tc.rtc), app007, "c", vNow)
		if ReasonOf(err) != tc.reason {
			t.Errorf("%s: %v, want reason %q", tc.name, err, tc.reason)
		}
		if tc.want.App, tc.want.Channel = got.App, got.Channel; got != tc.want {
			t.Errorf("%s: granted %+v, want %+v", tc.name, got, tc.want)
		}
	}
}

func TestServicesOfOneTypeAreNeverMerged(t *testing.T) {
	// The channel matches only in a service that may listen; the right to publish
	// belongs to another channel.
	tok := signed(t, 1111111, 600, rtcService("c", "", 1, 600), rtcService("d", "", 1, 600, 2, 600, 3, 600))
	g, err := Verify(tok, app007, "c", vNow)
	if err != nil || !g.PublishAudio.IsZero() || !g.PublishVideo.IsZero() {
		t.Errorf("rights of channel d leaked into c: %+v (%v)", g, err)
	}
	if g, err = Verify(tok, app007, "d", vNow); err != nil || g.PublishVideo.IsZero() {
		t.Errorf("second service not found: %+v (%v)", g, err)
	}
	// Two services for one channel: one whole service, the one that grants most.
	tok = signed(t, 1111111, 600, rtcService("c", "a", 1, 600, 2, 600), rtcService("c", "b", 1, 600, 2, 600, 3, 600))
	if g, _ = Verify(tok, app007, "c", vNow); g.User != "b" {
		t.Errorf("took the service of %q, want b", g.User)
	}
}

func TestUnknownServiceStopsParsingButNotAdmission(t *testing.T) {
	unknown := []byte{99, 0, 1, 2, 3}
	if _, err := Verify(signed(t, 1111111, 600, rtcService("c", "", 1, 600), unknown), app007, "c", vNow); err != nil {
		t.Errorf("RTC service before an unknown one: %v", err)
	}
	if _, err := Verify(signed(t, 1111111, 600, unknown, rtcService("c", "", 1, 600)), app007, "c", vNow); !errors.Is(err, ReasonNoService) {
		t.Errorf("RTC service behind an unknown one: %v, want %q", err, ReasonNoService)
	}
	// Genuine, but with a byte that no service claims.
	if _, err := Verify(signed(t, 1111111, 600, append(rtcService("c", "", 1, 600), 0)), app007, "c", vNow); !errors.Is(err, ReasonMalformed) {
		t.Errorf("signed leftover byte: %v, want %q", err, ReasonMalformed)
	}
}

func TestEveryServiceTypeParses(t *testing.T) {
	noPrivs := []byte{0, 0}
	withKind := func(kind byte, rest ...[]byte) []byte {
		return append(append([]byte{kind, 0}, noPrivs...), bytes.Join(rest, nil)...)
	}
	str := func(s string) []byte { return appendString(nil, s) }
	tok := signed(t, 1111111, 600,
		rtcService("c", "u", 1, 600), withKind(serviceRTM, str("u")), withKind(serviceStreaming, str("c"), str("u")),
		withKind(serviceFPA), withKind(serviceChat, str("u")), withKind(serviceFCDN, str("c"), str("u")),
		withKind(serviceAPaaS, str("room"), str("u"), []byte{0xff, 0xff}),
		withKind(serviceRTM2, str("u"), []byte{1, 0, 0, 0, 1, 0, 1, 0, 2, 0}, str("x"), str("y")))
	c, err := decode007(tok)
	if err != nil || len(c.services) != 8 || c.leftover != 0 {
		t.Fatalf("parsed %d services, %d bytes left (%v), want 8 and none", len(c.services), c.leftover, err)
	}
	if _, err := Verify(tok, app007, "c", vNow); err != nil {
		t.Error(err)
	}
}

func TestManyEncodingsOfOneTokenAreOneToken(t *testing.T) {
	var buf bytes.Buffer
	z, _ := zlib.NewWriterLevel(&buf, zlib.NoCompression)
	retokened(t, t1Go, func(raw []byte) []byte { _, _ = z.Write(raw); _ = z.Close(); return raw })
	stored := "007" + base64.StdEncoding.EncodeToString(buf.Bytes())
	if _, err := Verify(stored, app007, vChannel, vNow); err != nil {
		t.Errorf("stored instead of deflated: %v", err)
	}
	if stored == t1Go || Core(stored) != Core(t1Go) || Core(stored) == Core(t4) || Core(stored) == "" {
		t.Error("the core of a token is not that of its other spelling alone")
	}
	buf.WriteByte(0)
	if _, err := Verify("007"+base64.StdEncoding.EncodeToString(buf.Bytes()), app007, vChannel, vNow); !errors.Is(err, ReasonMalformed) {
		t.Errorf("a byte behind the stream: %v", err)
	}
}
