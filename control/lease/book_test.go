package lease

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

const (
	secret = "00112233445566778899aabbccddeeff"
	keyA   = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	keyB   = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	other  = "ffffffffffffffffffffffffffffffff"
)

func ask(node, fingerprint, invitation string) Request {
	return Request{Version: 1, Mesh: "m", Node: node, Fingerprint: fingerprint, Nonce: secret, Time: t0, Invitation: invitation}
}

// enrolled is a book in which fra was enrolled at t0, and given a lease then.
func enrolled(t *testing.T) *Book {
	t.Helper()
	var b Book
	if err := b.Approve(time.Unix(t0, 0), "fra", Entry{Region: "eu", Fingerprint: sample, Key: keyA}); err != nil {
		t.Fatal(err)
	}
	b.Given(Grant{Node: "fra", Issued: t0, Nonce: "first"}, "4c", "192.0.2.1")
	return &b
}

func TestWhoGetsALease(t *testing.T) {
	proof := func(key, fp string, issued, expires int64) *Proof {
		return &Proof{Issuer: "two", Region: "eu", Key: key, Fingerprint: fp, Nonce: "first", Issued: issued, Expires: expires}
	}
	for what, c := range map[string]struct {
		change func(*Book)
		r      Request
		key    string
		proof  *Proof
		code   string // of the refusal
		note   Note
	}{
		"the enrolled machine":                 {r: ask("fra", sample, ""), key: keyA},
		"with its last lease":                  {r: ask("fra", sample, ""), key: keyA, proof: proof(keyA, sample, t0, t0+7*day)},
		"with an older lease than its last":    {r: ask("fra", sample, ""), key: keyA, proof: &Proof{Key: keyA, Fingerprint: sample, Nonce: "zero", Issued: t0 - day}, note: NoteForked},
		"with another authority's newer lease": {r: ask("fra", sample, ""), key: keyA, proof: &Proof{Key: keyA, Fingerprint: sample, Nonce: "n", Issued: t0 + day}},
		"another key":                          {r: ask("fra", sample, ""), key: keyB, code: CodeNotListed},
		"another machine's fingerprint":        {r: ask("fra", other, ""), key: keyA, code: CodeMachine},
		"a node that nobody enrolled":          {r: ask("iad", sample, ""), key: keyA, code: CodeNotListed},
		"enrolled by another authority":        {r: ask("iad", other, ""), key: keyB, proof: proof(keyB, other, t0, t0+7*day), note: NoteAdopted},
		"its lease ended 29 days ago":          {r: ask("iad", other, ""), key: keyB, proof: proof(keyB, other, t0-36*day, t0-29*day), note: NoteAdopted},
		"its lease ended 31 days ago":          {r: ask("iad", other, ""), key: keyB, proof: proof(keyB, other, t0-38*day, t0-31*day), code: CodeNotListed},
		"the lease is for another key":         {r: ask("iad", other, ""), key: keyA, proof: proof(keyB, other, t0, t0+7*day), code: CodeNotListed},
		"the lease is another machine's":       {r: ask("iad", sample, ""), key: keyB, proof: proof(keyB, other, t0, t0+7*day), code: CodeNotListed},
		"moved at another authority":           {r: ask("fra", other, ""), key: keyB, proof: proof(keyB, other, t0+1, t0+7*day), note: NoteAdopted},
		"the machine that it moved from":       {r: ask("fra", other, ""), key: keyB, proof: proof(keyB, other, t0-1, t0+7*day), code: CodeNotListed},
		"denied":                               {change: func(b *Book) { _ = b.Deny("fra", "stolen") }, r: ask("fra", sample, ""), key: keyA, code: CodeDenied},
		"denied before it was known here":      {change: func(b *Book) { _ = b.Deny("iad", "stolen") }, r: ask("iad", other, ""), key: keyB, proof: proof(keyB, other, t0, t0+7*day), code: CodeNotListed},
		"a second node on the machine": {change: func(b *Book) {
			_ = b.Approve(time.Unix(t0, 0), "iad", Entry{Region: "us", Fingerprint: sample, Key: keyB})
		}, r: ask("iad", sample, ""), key: keyB, note: NoteShared},
	} {
		b := enrolled(t)
		if c.change != nil {
			c.change(b)
		}
		m, note, err := b.Admit(time.Unix(t0, 0), c.r, c.key, c.proof)
		var refused Refusal
		if errors.As(err, &refused); refused.Code != c.code || (err != nil) != (c.code != "") || note != c.note {
			t.Errorf("%s: %v, note %q; want code %q, note %q", what, err, note, c.code, c.note)
		}
		if err == nil && (m.Key != c.key || m.Fingerprint != c.r.Fingerprint || m.Region == "") {
			t.Errorf("%s: admitted as %+v", what, m)
		}
		if err != nil && !errors.Is(err, ErrNotListed) {
			t.Errorf("%s: %v is no ErrNotListed", what, err)
		}
	}
}

func TestAnInvitationIsForOneMachineOnce(t *testing.T) {
	now := time.Unix(t0, 0)
	invite := func(change func(*Invited)) *Book {
		b := &Book{}
		i := Invited{Hash: HashSecret(secret), Node: "iad", Region: "us", Voter: true, Made: t0, Expires: t0 + day}
		if change != nil {
			change(&i)
		}
		if err := b.Invite(now, i); err != nil {
			t.Fatal(err)
		}
		return b
	}
	b := invite(nil)
	m, note, err := b.Admit(now, ask("iad", other, secret), keyB, nil)
	if err != nil || note != NoteFirst || m.Region != "us" || !m.Voter || m.Key != keyB || m.Fingerprint != other {
		t.Fatalf("first use: %+v %q %v", m, note, err)
	}
	for what, c := range map[string]struct {
		b  *Book
		r  Request
		at time.Time
	}{
		"used twice":               {b, ask("iad", other, secret), now},
		"for another node":         {invite(nil), ask("fra", other, secret), now},
		"a wrong secret":           {invite(nil), ask("iad", other, strings.Repeat("0", 32)), now},
		"run out":                  {invite(nil), ask("iad", other, secret), now.Add(24 * time.Hour)},
		"for another machine":      {invite(func(i *Invited) { i.Fingerprint = sample }), ask("iad", other, secret), now},
		"taken back by a denial":   {func() *Book { b := invite(nil); _ = b.Deny("iad", "no"); return b }(), ask("iad", other, secret), now},
		"the hash is not a secret": {invite(nil), ask("iad", other, HashSecret(secret)), now},
	} {
		before := len(c.b.Invitations)
		if _, _, err := c.b.Admit(c.at, c.r, keyB, nil); !errors.Is(err, ErrNotListed) || len(c.b.Invitations) != before {
			t.Errorf("%s: %v, %d invitations left of %d", what, err, len(c.b.Invitations), before)
		}
	}
	// A denied node that is invited again is in again, on whatever machine.
	_ = b.Deny("iad", "broken")
	if err := b.Invite(now, Invited{Hash: HashSecret(secret), Node: "iad", Region: "us", Expires: t0 + day}); err != nil {
		t.Fatal(err)
	}
	if m, note, err := b.Admit(now, ask("iad", sample, secret), keyA, nil); err != nil || note != NoteMoved || m.Denied != "" || m.Voter {
		t.Errorf("invited again: %+v %q %v", m, note, err)
	}
}

func TestABookIsBounded(t *testing.T) {
	b := &Book{}
	for i := range MaxInvitations {
		if err := b.Invite(time.Unix(t0, 0), Invited{Node: fmt.Sprint(i), Expires: t0 + 1}); err != nil {
			t.Fatal(err)
		}
	}
	if b.Invite(time.Unix(t0, 0), Invited{Node: "more", Expires: t0 + 1}) == nil {
		t.Error("one more invitation was taken")
	}
	if err := b.Invite(time.Unix(t0+1, 0), Invited{Node: "more", Expires: t0 + 9}); err != nil || len(b.Invitations) != 1 {
		t.Errorf("those that ran out stay: %d, %v", len(b.Invitations), err)
	}
	b.Machines = make(map[string]Entry)
	for i := range MaxEntries {
		b.Machines[fmt.Sprint(i)] = Entry{}
	}
	if b.Approve(time.Unix(t0, 0), "more", Entry{}) == nil || b.Deny("more", "x") == nil {
		t.Error("one more machine was taken")
	}
	if err := b.Deny("7", "x"); err != nil {
		t.Error(err)
	}
}

func TestRequestsAreReadStrictly(t *testing.T) {
	good := ask("fra", sample, "")
	for what, spoil := range map[string]func(*Request){
		"version":     func(r *Request) { r.Version = 2 },
		"mesh":        func(r *Request) { r.Mesh = "" },
		"node":        func(r *Request) { r.Node = "Fra/../x" },
		"fingerprint": func(r *Request) { r.Fingerprint = "31" },
		"nonce":       func(r *Request) { r.Nonce = strings.Repeat("G", 32) },
		"invitation":  func(r *Request) { r.Invitation = "guess" },
	} {
		r := good
		spoil(&r)
		b, _ := json.Marshal(r)
		if _, err := DecodeRequest(b); err == nil {
			t.Errorf("%s: %s was read", what, b)
		}
	}
	b, _ := json.Marshal(good)
	if r, err := DecodeRequest(b); err != nil || r.Node != "fra" {
		t.Error(err)
	}
	for what, b := range map[string][]byte{"too long": bytes.Repeat([]byte(" "), MaxRequestBytes+1), "two": append(b, b...), "a field more": []byte(`{"version":1,"admin":true}`)} {
		if _, err := DecodeRequest(b); err == nil {
			t.Errorf("%s was read", what)
		}
	}
}

func TestAnAnswerFitsItsRequestAndClock(t *testing.T) {
	r := ask("fra", sample, "")
	g := grant()
	g.Nonce = r.Nonce
	for what, c := range map[string]struct {
		change func(*Grant)
		at     int64
		good   bool
		clock  bool
	}{
		"as asked":              {nil, t0, true, false},
		"of another request":    {func(g *Grant) { g.Nonce = "00" }, t0, false, false},
		"for another machine":   {func(g *Grant) { g.Fingerprint = other }, t0, false, false},
		"clock a bit behind":    {nil, t0 - 30, true, false},
		"clock behind":          {nil, t0 - 31, false, true},
		"clock a bit ahead":     {nil, t0 + 120, true, false},
		"clock ahead":           {nil, t0 + 121, false, true},
		"clock a fortnight off": {nil, t0 + 14*day, false, true},
	} {
		g := g
		if c.change != nil {
			c.change(&g)
		}
		err := r.Fits(Lease{Grant: g}, time.Unix(c.at, 0), 30*time.Second)
		if (err == nil) != c.good || errors.Is(err, ErrClock) != c.clock {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestInvitationsAreOneLine(t *testing.T) {
	i := Invitation{Mesh: "m", Node: "iad", Pin: keyA, Secret: secret}
	if back, err := ParseInvitation(" " + i.String() + "\n"); err != nil || back != i {
		t.Errorf("%+v, %v", back, err)
	}
	if strings.ContainsAny(i.String(), " \n") {
		t.Error("it has white space")
	}
	for _, s := range []string{"", "hello", i.String()[:60], strings.Replace(i.String(), ".", ".!", 1), invitationPrefix + "e30", strings.Repeat("x", 4000)} {
		if _, err := ParseInvitation(s); err == nil {
			t.Errorf("%.40q was read", s)
		}
	}
}

func FuzzDecodeRequest(f *testing.F) {
	b, _ := json.Marshal(ask("fra", sample, secret))
	f.Add(b)
	l := fresh()
	r := ask("fra", sample, "")
	r.Previous = &l
	b, _ = json.Marshal(r)
	f.Add(b)
	f.Add([]byte(`{"version":1,"previous":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := DecodeRequest(b)
		if err != nil {
			return
		}
		book := &Book{Machines: map[string]Entry{"fra": {Key: keyA, Fingerprint: sample}}}
		if _, _, err := book.Admit(time.Unix(t0, 0), r, keyB, nil); err == nil {
			t.Fatalf("a request without a right was granted: %s", b)
		}
		if len(book.Machines) != 1 {
			t.Fatalf("it changed the book: %s", b)
		}
	})
}

func FuzzParseInvitation(f *testing.F) {
	f.Add(Invitation{Mesh: "m", Node: "iad", Pin: keyA, Secret: secret}.String())
	f.Add(invitationPrefix)
	f.Fuzz(func(t *testing.T, s string) {
		if i, err := ParseInvitation(s); err == nil {
			if back, err := ParseInvitation(i.String()); err != nil || back != i {
				t.Fatalf("%q: read, written and read: %v", s, err)
			}
		}
	})
}
