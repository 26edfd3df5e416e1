package lease

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

const (
	sample = "31478b542aee8812097c42cc3b1642c9"
	t0     = 1700000000
	day    = 86400
)

// issuer is an authority of the tests.
type issuer struct {
	name string
	key  ed25519.PrivateKey
}

func newIssuer(name string) issuer {
	seed := make([]byte, ed25519.SeedSize)
	copy(seed, name)
	return issuer{name, ed25519.NewKeyFromSeed(seed)}
}

// machine trusts the authority "one" alone.
func machine(fingerprint string) Machine {
	one := newIssuer("one")
	return Machine{Mesh: "m", Node: "fra", Fingerprint: fingerprint, Key: []byte("node key"), Issuer: func(cert []byte) (string, ed25519.PublicKey, error) {
		if string(cert) != "certificate of one" {
			return "", nil, errors.New("not of this mesh's CA")
		}
		return "one", one.key.Public().(ed25519.PublicKey), nil
	}}
}

func grant() Grant {
	return Grant{Mesh: "m", Node: "fra", Fingerprint: sample, Issuer: "one", Issued: t0, Expires: t0 + 7*day, Nonce: "00ff", Certificate: []byte("der")}
}

func file(t testing.TB, l Lease) []byte {
	t.Helper()
	b, err := l.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func fresh() Lease {
	return Sign(grant(), newIssuer("one").key, []byte("certificate of one")).Seal([]byte("node key"))
}

func TestVerdictsByTime(t *testing.T) {
	for _, c := range []struct {
		at       int64
		lastSeen int64
		void     bool
		want     Verdict
	}{
		{t0, t0, false, Valid},
		{t0 + day, t0, false, Valid},
		{t0 + 172800, t0, false, Valid}, // exactly five days left
		{t0 + 172801, t0, false, ValidWarn},
		{t0 + 604799, t0, false, ValidWarn},
		{t0 + 604800, t0, false, Expired},
		{t0 - 1, t0, false, ClockRollback},
		{t0 + 172800, t0 + 259200, false, ClockRollback},
		{t0 + 259200, t0 + 259200, false, ValidWarn},
		{t0 + day, t0, true, VoidClock},
		{t0 - 1, t0, true, VoidClock},     // void comes before rollback
		{t0 + 8*day, t0, true, VoidClock}, // and before the end
		{t0 + 60*day, t0, false, Expired}, // a clock that jumped forward
		{t0 - 60*day, t0, false, ClockRollback},
	} {
		l := fresh()
		l.LastSeen, l.Void = c.lastSeen, c.void
		m := machine(sample)
		v, got, err := m.Judge(file(t, l.Seal(m.Key)), time.Unix(c.at, 0))
		if v != c.want || err != nil || got.Grant.Node != "fra" {
			t.Errorf("t0%+d, last seen t0%+d, void %v: %s (%v), want %s", c.at-t0, c.lastSeen-t0, c.void, v, err, c.want)
		}
		if v.Good() == (v.Do() != "" && v != ValidWarn) {
			t.Errorf("%s: good %v, advice %q", v, v.Good(), v.Do())
		}
	}
}

func TestTheToleranceIsForSmallSteps(t *testing.T) {
	m := machine(sample)
	m.Tolerance = 120 * time.Second
	for back, want := range map[int64]Verdict{1: Valid, 120: Valid, 121: ClockRollback} {
		if v, _, _ := m.Judge(file(t, fresh()), time.Unix(t0-back, 0)); v != want {
			t.Errorf("%d s back: %s, want %s", back, v, want)
		}
	}
}

func TestVerdictsOfFilesThatAreNotThisMachines(t *testing.T) {
	spoil := func(f func(*Lease)) []byte { l := fresh(); f(&l); return file(t, l) }
	other := newIssuer("two")
	for what, c := range map[string]struct {
		file []byte
		m    Machine
		want Verdict
	}{
		"no file":                    {nil, machine(sample), NoLease},
		"not JSON":                   {[]byte("hello"), machine(sample), BadLease},
		"cut short":                  {file(t, fresh())[:300], machine(sample), BadLease},
		"two documents":              {append(file(t, fresh()), '{', '}'), machine(sample), BadLease},
		"an unknown field":           {[]byte(strings.Replace(string(file(t, fresh())), `"void"`, `"avoid"`, 1)), machine(sample), BadLease},
		"too long":                   {make([]byte, MaxFileBytes+1), machine(sample), BadLease},
		"a later version":            {spoil(func(l *Lease) { l.Grant.Version = 2 }), machine(sample), BadLease},
		"prolonged":                  {spoil(func(l *Lease) { l.Grant.Expires++ }), machine(sample), BadLease},
		"another fingerprint edited": {spoil(func(l *Lease) { l.Grant.Fingerprint = strings.Repeat("0", 32) }), machine(strings.Repeat("0", 32)), BadLease},
		"another certificate":        {spoil(func(l *Lease) { l.Grant.Certificate = []byte("mine") }), machine(sample), BadLease},
		"unknown issuer":             {file(t, Sign(grant(), other.key, []byte("certificate of two")).Seal([]byte("node key"))), machine(sample), BadLease},
		"signed with another key":    {file(t, Sign(grant(), other.key, []byte("certificate of one")).Seal([]byte("node key"))), machine(sample), BadLease},
		"void taken off":             {spoil(func(l *Lease) { l.Void = true; *l = l.Seal([]byte("node key")); l.Void = false }), machine(sample), BadLease},
		"last seen set back":         {spoil(func(l *Lease) { l.LastSeen -= 10 }), machine(sample), BadLease},
		"another machine":            {file(t, fresh()), machine(strings.Repeat("a", 32)), WrongMachine},
		"another node":               {spoil(func(l *Lease) { l.Grant.Node = "iad" }), machine(sample), BadLease},
	} {
		v, _, err := c.m.Judge(c.file, time.Unix(t0+day, 0))
		if v != c.want || (v == BadLease) != (err != nil) {
			t.Errorf("%s: %s (%v), want %s", what, v, err, c.want)
		}
		if v.Good() || v.Do() == "" {
			t.Errorf("%s: good %v, advice %q", what, v.Good(), v.Do())
		}
	}
	g := grant()
	g.Expires = g.Issued + 8*day
	if v, _, _ := machine(sample).Judge(file(t, Sign(g, newIssuer("one").key, []byte("certificate of one")).Seal([]byte("node key"))), time.Unix(t0, 0)); v != BadLease {
		t.Errorf("a lease of eight days is %s", v)
	}
}

// life looks at a file again and again, as a node does.
func life(t *testing.T, m Machine, l Lease, at ...int64) (out string) {
	t.Helper()
	for _, s := range at {
		v, got, err := m.Judge(file(t, l), time.Unix(t0+s, 0))
		if err != nil {
			t.Fatal(err)
		}
		if kept, changed := m.Observe(got, v, time.Unix(t0+s, 0)); changed {
			l = kept
		}
		out += string(v) + " "
	}
	return strings.TrimSpace(out)
}

func TestRollbackSticksUntilAFreshLease(t *testing.T) {
	m := machine(sample)
	if got := life(t, m, fresh(), 0, 3600, 3000, 3600, 100000); got != "VALID VALID CLOCK_ROLLBACK VOID_CLOCK VOID_CLOCK" {
		t.Errorf("a clock that went back and forth: %s", got)
	}
	if got := life(t, m, fresh(), 3700); got != "VALID" {
		t.Errorf("a fresh lease: %s", got)
	}
}

func TestAJumpForwardThatIsPutRightIsNoRollback(t *testing.T) {
	if got := life(t, machine(sample), fresh(), 0, day, 30*day, 2*day, 2*day+1); got != "VALID VALID EXPIRED VALID VALID_WARN" {
		t.Errorf("%s", got)
	}
}

func TestAFrozenClockIsSeenOnlyWhenItGoesBackBehindTheLastLook(t *testing.T) {
	if got := life(t, machine(sample), fresh(), 100, 100, 100, 99); got != "VALID VALID VALID CLOCK_ROLLBACK" {
		t.Errorf("%s", got)
	}
}

func FuzzDecode(f *testing.F) {
	l := fresh()
	b, _ := l.Encode()
	f.Add(b)
	f.Add([]byte(`{"grant":{},"void":true}`))
	f.Add([]byte(`{"grant":{"expires":9223372036854775807,"issued":-1}}`))
	f.Add([]byte("[]"))
	m := machine(sample)
	f.Fuzz(func(t *testing.T, b []byte) {
		v, got, err := m.Judge(b, time.Unix(t0+day, 0))
		if (v == BadLease) != (err != nil) && b != nil {
			t.Fatalf("%s with %v", v, err)
		}
		if v.Good() && got.Grant.signedText() != fresh().Grant.signedText() {
			t.Fatalf("a lease that nobody signed is %s: %s", v, b)
		}
		if again, err := Decode(b); err == nil {
			enc, err := again.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if back, err := Decode(enc); err != nil || fmt.Sprint(back) != fmt.Sprint(again) {
				t.Fatalf("read, written and read: %v", err)
			}
		}
	})
}

// signedText makes grants comparable.
func (g Grant) signedText() string { return string(g.signed()) }
