package enrol

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/ternmesh/tern/control/lease"
	"github.com/ternmesh/tern/mesh/identity"
	"github.com/ternmesh/tern/node/authority"
	"github.com/ternmesh/tern/sim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	here  = "31478b542aee8812097c42cc3b1642c9"
	there = "ffffffffffffffffffffffffffffffff"
	day   = 24 * time.Hour
)

// town is a network in memory: authorities by name. One that is down refuses connections.
type town struct {
	mu sync.Mutex
	at map[string]*sim.StreamListener // guarded by mu
}

func (n *town) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	to := n.at[host]
	n.mu.Unlock()
	return to.Dial(ctx, network, address)
}

// quickDir is a folder in memory where there is one: weeks of a keeper are thousands of syncs.
func quickDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "tern-enrol-*")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// world is a mesh's CA with authorities and one machine.
type world struct {
	t     *testing.T
	ca    string
	dir   string
	net   *town
	trust identity.Trust
	key   *ecdsa.PrivateKey
}

func newWorld(t *testing.T) *world {
	t.Helper()
	t.Cleanup(func() { time.Sleep(time.Minute) }) // closing connections say goodbye, in virtual time
	w := &world{t: t, ca: filepath.Join(quickDir(t), "ca"), dir: quickDir(t), net: &town{at: make(map[string]*sim.StreamListener)}}
	if err := identity.InitCA(w.ca, "m", time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.trust, err = identity.LoadTrust(identity.CAFile(w.ca)); err != nil {
		t.Fatal(err)
	}
	if w.key, err = identity.NodeKey(filepath.Join(w.dir, "fra.key"), true); err != nil {
		t.Fatal(err)
	}
	return w
}

// authority starts one at an address; the function ends it.
func (w *world) authority(name string) (authority.Store, func()) {
	w.t.Helper()
	store, err := authority.OpenStore(quickDir(w.t))
	if err != nil {
		w.t.Fatal(err)
	}
	return store, w.again(name, store)
}

// again starts an authority on a book that may have been another's, with a new certificate.
func (w *world) again(name string, store authority.Store) func() {
	w.t.Helper()
	dir := quickDir(w.t)
	if err := identity.IssueAuthority(w.ca, dir, identity.AuthorityOptions{Name: name, Valid: 1000 * day}); err != nil {
		w.t.Fatal(err)
	}
	signer, err := identity.LoadSigner(w.ca)
	if err != nil {
		w.t.Fatal(err)
	}
	own, err := identity.LoadAuthority(identity.CAFile(w.ca), dir)
	if err != nil {
		w.t.Fatal(err)
	}
	a, err := authority.New(authority.Config{
		Store: store, Signer: signer, Logger: slog.New(slog.DiscardHandler),
		Load: func() (identity.Authority, error) { return own, nil },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	l := sim.NewStreamListener(&net.TCPAddr{})
	w.net.mu.Lock()
	w.net.at[name] = l
	w.net.mu.Unlock()
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := a.Run(ctx, l); err != nil {
			w.t.Errorf("authority %s: %v", name, err)
		}
	}()
	synctest.Wait()
	return func() {
		cancel()
		<-done
	}
}

func (w *world) client() Client {
	return Client{Key: w.key, Node: "fra", Fingerprint: here, Dial: w.net.dial}
}

func (w *world) file(fingerprint string) File {
	w.t.Helper()
	m, err := MachineOf(w.trust, "fra", fingerprint, w.key, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	return File{Path: filepath.Join(w.dir, "lease.json"), Machine: m}
}

func (w *world) invite(s authority.Store) *lease.Invitation {
	w.t.Helper()
	i, err := s.Invite(time.Now(), w.trust, authority.Order{Who: "me", Node: "fra", Region: "eu", Valid: time.Hour})
	if err != nil {
		w.t.Fatal(err)
	}
	return &i
}

// enrol gets the first lease from one.
func (w *world) enrol(s authority.Store) {
	w.t.Helper()
	l, _, err := w.client().First(w.t.Context(), []string{"one"}, filepath.Join(w.dir, "ca.crt"), w.invite(s))
	if err == nil {
		err = w.file(here).Put(l)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// keeper runs a node's keeper on the file; stop ends it.
func (w *world) keeper(authorities ...string) (k *Keeper, id *identity.Identity, stop func()) {
	w.t.Helper()
	k = &Keeper{File: w.file(here), Client: w.client(), Trust: w.trust, Authorities: authorities, Logger: slog.New(slog.DiscardHandler), Every: 20 * time.Minute}
	v, l, err := k.Start()
	if !v.Good() {
		w.t.Fatalf("at the start: %s, %v", v, err)
	}
	if id, err = identity.LoadLeased(identity.CAFile(w.ca), filepath.Join(w.dir, "fra.key"), l.Grant.Certificate); err != nil {
		w.t.Fatal(err)
	}
	k.Renewed = func(l lease.Lease) error { return id.Renew(l.Grant.Certificate) }
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = k.Run(ctx) }()
	return k, id, func() { cancel(); <-done }
}

// Two authorities and a node over weeks: the table of outcomes.
func TestANodeUnderAuthoritiesThatComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		one, stopOne := w.authority("one")
		two, stopTwo := w.authority("two")
		w.enrol(one)
		k, id, stop := w.keeper("one", "two")
		left := func() time.Duration { return time.Until(k.State().Expires) }
		expect := func(what string, v lease.Verdict, issuer string, alarm lease.Alarm) {
			t.Helper()
			if s := k.State(); s.Verdict != v || s.Issuer != issuer || s.Alarm != alarm {
				t.Errorf("%s: %s by %s, alarm %q (%s); want %s by %s, %q", what, s.Verdict, s.Issuer, s.Alarm, s.Trouble, v, issuer, alarm)
			}
		}
		serial := func() string { return id.Cert().Leaf.SerialNumber.Text(16) }
		first := serial()
		time.Sleep(3 * day)
		expect("both authorities up", lease.Valid, "one", lease.NoAlarm)
		if got := left(); got < 6*day-time.Hour || got > 7*day {
			t.Errorf("with daily renewals %v are left, want 6 to 7 days", got)
		}
		if serial() == first || !id.Cert().Leaf.NotAfter.Equal(k.State().Expires.Add(day)) {
			t.Errorf("the certificate in use is %s until %v, the lease's end is %v", serial(), id.Cert().Leaf.NotAfter, k.State().Expires)
		}
		stopOne()
		time.Sleep(2 * day)
		expect("one down", lease.Valid, "two", lease.NoAlarm)
		if b, err := two.Book(); err != nil || b.Machines["fra"].By != "one" {
			t.Errorf("authority two has %+v, %v: it should have adopted the machine", b.Machines["fra"], err)
		}
		for time.Since(k.State().Issued) > time.Hour {
			time.Sleep(time.Hour / 2)
		}
		stopTwo()
		time.Sleep(day + time.Hour)
		expect("both down, first day", lease.Valid, "two", lease.Connect)
		time.Sleep(2 * day)
		expect("both down, third day", lease.ValidWarn, "two", lease.Connect)
		if k.State().Warned == 0 {
			t.Error("no alarm was raised")
		}
		time.Sleep(5 * day)
		expect("both down, eighth day", lease.Expired, "two", lease.Connect)
		stop()
		if v, _, _ := w.file(here).Peek(time.Now()); v != lease.Expired {
			t.Errorf("a restart finds %s", v)
		}
	})
}

func TestRenewalRestoresWhatHadEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		one, stopOne := w.authority("one")
		w.enrol(one)
		k, id, stop := w.keeper("one")
		defer stop()
		time.Sleep(time.Hour)
		stopOne()
		time.Sleep(9 * day)
		if got := k.State().Verdict; got != lease.Expired {
			t.Fatalf("after nine days: %s", got)
		}
		if id.Cert().Leaf.NotAfter.After(time.Now()) {
			t.Fatal("the certificate has not ended: the test proves nothing")
		}
		restart := w.again("one", one)
		defer restart()
		time.Sleep(2 * time.Hour) // the back-off is an hour at most
		if s := k.State(); s.Verdict != lease.Valid || s.Alarm != lease.NoAlarm {
			t.Errorf("the authority is back: %s, alarm %q, %s", s.Verdict, s.Alarm, s.Trouble)
		}
		if id.Cert().Leaf.NotAfter.Before(time.Now()) {
			t.Error("the certificate in use is the old one")
		}
	})
}

func TestALeaseIsOneMachines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		one, stopOne := w.authority("one")
		defer stopOne()
		if v, _, err := w.file(here).Peek(time.Now()); v != lease.NoLease || err != nil {
			t.Errorf("before: %s, %v", v, err)
		}
		w.enrol(one)
		if v, _, err := w.file(there).Peek(time.Now()); v != lease.WrongMachine || err != nil {
			t.Errorf("copied to another machine: %s, %v", v, err)
		}
		c := w.client()
		c.Fingerprint = there
		r := Round(t.Context(), w.file(there), c, w.trust, []string{"one"})
		if r.Lease != nil || r.Alarm != lease.NotListed || !strings.Contains(errors.Join(r.Errors...).Error(), "another fingerprint") {
			t.Errorf("it asks for a lease there: %+v", r)
		}
		if v, _, err := w.file(here).Peek(time.Now()); v != lease.Valid || err != nil {
			t.Errorf("the original host is affected: %s, %v", v, err)
		}
		if info, err := os.Stat(filepath.Join(w.dir, "lease.json")); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the file's mode is %v, %v; want 0600", info.Mode(), err)
		}
		// Its keys were copied with the whole disk: the copy and the original take turns at the authority.
		previous := w.renew("one")
		_ = w.renew("one")
		if err := w.file(here).Put(previous); err != nil {
			t.Fatal(err)
		}
		_ = w.renew("one")
		notes := w.notes(one)
		if !slices.Contains(notes, string(lease.NoteForked)) {
			t.Errorf("the authority noted %v, nothing of two copies", notes)
		}
	})
}

// Root runs `tern enrol` in a folder of the node's user, who must not get other files given by that.
func TestTheLocksLinkIsNotFollowed(t *testing.T) {
	dir := t.TempDir()
	other := filepath.Join(dir, "other")
	if err := errors.Join(os.WriteFile(other, nil, 0o600), os.Symlink(other, filepath.Join(dir, "lease.json.lock"))); err != nil {
		t.Fatal(err)
	}
	if err := (File{Path: filepath.Join(dir, "lease.json")}).Put(lease.Lease{}); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("the lock was taken through a link: %v", err)
	}
}

func (w *world) renew(name string) lease.Lease {
	w.t.Helper()
	time.Sleep(time.Minute)
	r := Round(w.t.Context(), w.file(here), w.client(), w.trust, []string{name})
	if r.Lease == nil {
		w.t.Fatal(r.Errors)
	}
	return *r.Lease
}

func (w *world) notes(s authority.Store) (out []string) {
	w.t.Helper()
	if _, err := s.Audit(func(l authority.Line) error { out = append(out, l.Note); return nil }); err != nil {
		w.t.Fatal(err)
	}
	return out
}

func TestTheClockGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		one, stopOne := w.authority("one")
		defer stopOne()
		w.enrol(one)
		f, start := w.file(here), time.Now()
		for _, c := range []struct {
			at   time.Duration
			want lease.Verdict
		}{{day, lease.Valid}, {day - time.Second, lease.ClockRollback}, {day, lease.VoidClock}, {2 * day, lease.VoidClock}} {
			if v, _, _, err := f.Look(start.Add(c.at), 0); v != c.want || err != nil {
				t.Errorf("looked at after %v: %s, %v; want %s", c.at, v, err, c.want)
			}
		}
		_ = w.renew("one")
		if v, _, _, err := f.Look(time.Now(), 0); v != lease.Valid || err != nil {
			t.Errorf("renewed: %s, %v", v, err)
		}
		f.Machine.AtLeast = lease.Reckon(time.Now(), 10*time.Second) // the wall clock was held still for ten seconds
		if v, _, _, _ := f.Look(time.Now(), 0); v != lease.ClockRollback {
			t.Errorf("a clock that was held still: %s", v)
		}
	})
}

func TestEnrolmentWithoutTheCA(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		one, stopOne := w.authority("one")
		defer stopOne()
		caFile := filepath.Join(w.dir, "ca.crt")
		first := func(authorities []string, i *lease.Invitation) error {
			_, _, err := w.client().First(t.Context(), authorities, caFile, i)
			return err
		}
		other := newWorld(t) // another mesh at the same address
		for what, c := range map[string]struct {
			authorities []string
			i           *lease.Invitation
			says        string
		}{
			"no invitation and no CA":        {[]string{"one"}, nil, "ca.crt must be there"},
			"an invitation of another mesh":  {[]string{"one"}, other.invite(mustStore(t)), "its CA is another"},
			"for another node":               {[]string{"one"}, &lease.Invitation{Node: "iad"}, `is for node "iad"`},
			"nobody there":                   {[]string{"two", "three"}, w.invite(one), "connection refused"},
			"a secret that nobody was given": {[]string{"one"}, &lease.Invitation{Mesh: "m", Node: "fra", Pin: w.trust.Pin(), Secret: strings.Repeat("0", 32)}, "was used"},
			"the invitation was taken back":  {[]string{"one"}, w.takenBack(one), "was used"},
		} {
			if err := first(c.authorities, c.i); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v; want %q", what, err, c.says)
			}
			if _, err := os.Stat(caFile); err == nil {
				t.Fatalf("%s left a CA behind", what)
			}
		}
		if err := first([]string{"two", "one"}, w.invite(one)); err != nil {
			t.Fatal(err)
		}
		if tr, err := identity.LoadTrust(caFile); err != nil || tr.Pin() != w.trust.Pin() {
			t.Errorf("the CA that came along: %v", err)
		}
		if err := first([]string{"one"}, nil); err != nil {
			t.Errorf("it is enrolled now, and asks without an invitation: %v", err)
		}
		if err := other.trust.Save(caFile); err != nil {
			t.Fatal(err)
		}
		if err := first([]string{"one"}, w.invite(one)); err == nil || !strings.Contains(err.Error(), "another mesh") {
			t.Errorf("the CA on disk is another mesh's: %v", err)
		}
	})
}

func mustStore(t *testing.T) authority.Store {
	t.Helper()
	s, err := authority.OpenStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (w *world) takenBack(s authority.Store) *lease.Invitation {
	w.t.Helper()
	i := w.invite(s)
	if err := s.Deny(time.Now(), authority.Order{Node: "fra"}); err != nil {
		w.t.Fatal(err)
	}
	return i
}

func TestAClockFarFromTheAuthoritysGetsNoLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		one, stopOne := w.authority("one")
		defer stopOne()
		w.enrol(one)
		r := lease.Renew(1, func(int) (lease.Lease, error) {
			l, err := w.client().Ask(t.Context(), "one", w.trust, nil, "")
			if err == nil {
				err = lease.Request{Nonce: l.Grant.Nonce, Fingerprint: here}.Fits(l, time.Now().Add(-time.Hour), 0)
			}
			return l, err
		})
		if r.Alarm != lease.Clock {
			t.Errorf("an hour behind: alarm %q, %v", r.Alarm, r.Errors)
		}
	})
}

func TestTheFingerprint(t *testing.T) {
	link := func(to string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(to), Mode: fs.ModeSymlink} }
	address := func(a string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(a + "\n")} }
	host := func(change func(fstest.MapFS)) fstest.MapFS {
		m := fstest.MapFS{
			"etc/machine-id":     {Data: []byte("0123456789abcdef0123456789abcdef\n")},
			"sys/class/net/eth0": link("../../devices/pci0000:00/0000:00:03.0/net/eth0"),
			"sys/class/net/eth1": link("../../devices/pci0000:00/0000:00:05.0/net/eth1"),
			"sys/class/net/lo":   link("../../devices/virtual/net/lo"),
			"sys/class/net/usb0": link("../../devices/pci0000:00/0000:00:01.0/usb1/1-1/net/usb0"),
			"sys/devices/pci0000:00/0000:00:03.0/net/eth0/address":          address("02:00:00:00:00:01"),
			"sys/devices/pci0000:00/0000:00:05.0/net/eth1/address":          address("02:00:00:00:00:02"),
			"sys/devices/pci0000:00/0000:00:01.0/usb1/1-1/net/usb0/address": address("02:00:00:00:00:03"),
			"sys/devices/virtual/net/lo/address":                            address("00:00:00:00:00:00"),
		}
		if change != nil {
			change(m)
		}
		return m
	}
	base, err := fingerprintOf(host(nil))
	if err != nil || !lease.ValidFingerprint(base) {
		t.Fatalf("%q, %v", base, err)
	}
	for what, c := range map[string]struct {
		change func(fstest.MapFS)
		same   bool
	}{
		"the second card is gone": {func(m fstest.MapFS) { delete(m, "sys/class/net/eth1") }, true},
		"the USB card is gone":    {func(m fstest.MapFS) { delete(m, "sys/class/net/usb0") }, true},
		"another first card": {func(m fstest.MapFS) {
			m["sys/devices/pci0000:00/0000:00:03.0/net/eth0/address"] = address("02:00:00:00:00:09")
		}, false},
		"another installation":      {func(m fstest.MapFS) { m["etc/machine-id"] = &fstest.MapFile{Data: []byte("fedcba")} }, false},
		"no card, as in containers": {func(m fstest.MapFS) { delete(m, "sys/class/net/eth0"); delete(m, "sys/class/net/eth1") }, false},
	} {
		if got, err := fingerprintOf(host(c.change)); err != nil || (got == base) != c.same {
			t.Errorf("%s: same %v, %v; want %v", what, got == base, err, c.same)
		}
	}
	for _, id := range []string{"", "\n", "uninitialized\n"} {
		if _, err := fingerprintOf(host(func(m fstest.MapFS) { m["etc/machine-id"] = &fstest.MapFile{Data: []byte(id)} })); err == nil {
			t.Errorf("machine-id %q made a fingerprint", id)
		}
	}
	file := filepath.Join(t.TempDir(), "machine")
	if err := os.WriteFile(file, []byte("rack 7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := Fingerprint(file); err != nil || !lease.ValidFingerprint(got) || got == base {
		t.Errorf("of a file: %q, %v", got, err)
	}
	if err := os.WriteFile(file, []byte(" \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Fingerprint(file); err == nil {
		t.Error("an empty file made a fingerprint")
	}
}

func TestAFolderMayBeWrittenWithASlashAtItsEnd(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "above", "data")
	for _, made := range []bool{true, false} {
		if got, err := MakeFolder(dir+"/", nil); got != made || err != nil {
			t.Errorf("made %v, want %v; %v", got, made, err)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestFoldersThatRootMakesAreTheNodesUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("only root can give folders away; CI must be root")
		}
		t.Skip("only root can give folders away")
	}
	owner := func(path string) int {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o700 {
			t.Fatalf("%s: %v, %v", path, info.Mode(), err)
		}
		return int(info.Sys().(*syscall.Stat_t).Uid)
	}
	top := t.TempDir()
	for _, c := range []struct {
		above int
		user  *user.User
		want  int
	}{
		{0, nil, 0},
		{4321, nil, 4321}, // a user's own folder
		{0, &user.User{Uid: "4322", Gid: "4322"}, 4322},
	} {
		if err := os.Chown(top, c.above, -1); err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(top, strconv.Itoa(c.want), "data")
		made, err := MakeFolder(dir, c.user)
		if err != nil || !made || owner(dir) != c.want || owner(filepath.Dir(dir)) != c.want {
			t.Errorf("beneath a folder of %d: made %v for %d, want %d; %v", c.above, made, owner(dir), c.want, err)
		}
		if made, err := MakeFolder(dir, &user.User{Uid: "1", Gid: "1"}); made || err != nil || owner(dir) != c.want {
			t.Errorf("a folder that was there: made %v, of %d, %v", made, owner(dir), err)
		}
	}
}
