package lease

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestAuthoritiesAreAskedInTurn(t *testing.T) {
	down, unlisted := errors.New("connection refused"), fmt.Errorf("403: %w", ErrNotListed)
	for what, c := range map[string]struct {
		answers []error // nil is a lease
		from    int
		lease   bool
		asked   int
		alarm   Alarm
	}{
		"the first serves":              {[]error{nil, nil}, 0, true, 1, NoAlarm},
		"one down, the next serves":     {[]error{down, nil, nil}, 1, true, 2, NoAlarm},
		"two refuse, the third serves":  {[]error{unlisted, down, nil}, 2, true, 3, NoAlarm},
		"all down":                      {[]error{down, down, down}, 0, false, 3, Connect},
		"not listed":                    {[]error{unlisted}, 0, false, 1, NotListed},
		"not listed, and the rest down": {[]error{unlisted, down}, 0, false, 2, NotListed},
		"no authority":                  {nil, 0, false, 0, Connect},
	} {
		asked := 0
		r := Renew(len(c.answers), func(i int) (Lease, error) { asked++; return fresh(), c.answers[i] })
		if (r.Lease != nil) != c.lease || r.From != c.from || asked != c.asked || r.Alarm != c.alarm {
			t.Errorf("%s: lease %v from %d, %d asked, alarm %q", what, r.Lease != nil, r.From, asked, r.Alarm)
		}
		if want := asked; c.lease {
			want--
			if len(r.Errors) != want {
				t.Errorf("%s: %d errors told, want %d", what, len(r.Errors), want)
			}
		}
	}
}

func TestRenewalIsDailyAndFailuresBackOff(t *testing.T) {
	for random, want := range map[float64]time.Duration{0: 23*time.Hour + 30*time.Minute, 0.5: 24 * time.Hour} {
		if got := Next(Term, 0, random); got != want {
			t.Errorf("after a lease, at %v: %v, want %v", random, got, want)
		}
	}
	for failures, want := range map[int]time.Duration{1: time.Minute, 2: 2 * time.Minute, 6: 32 * time.Minute, 7: time.Hour, 1000: time.Hour} {
		if got := Next(Term, failures, 0.9); got != want {
			t.Errorf("after %d failures: %v, want %v", failures, got, want)
		}
	}
}

func TestAShortLeaseIsRenewedInProportion(t *testing.T) {
	for granted, want := range map[time.Duration]time.Duration{7 * time.Minute: time.Minute, 70 * time.Second: 10 * time.Second} {
		if got := Next(granted, 0, 0.5); got.Round(time.Millisecond) != want {
			t.Errorf("a lease for %v is renewed after %v, want %v", granted, got, want)
		}
		for failures := 1; failures < 20; failures++ {
			if got := Next(granted, failures, 0.5); got < time.Second || got > want {
				t.Errorf("a lease for %v, after %d failures: %v", granted, failures, got)
			}
		}
	}
}

func TestAClockThatDiffersIsAnAlarmOfItsOwn(t *testing.T) {
	down, clock, unlisted := errors.New("down"), Refusal{Code: CodeClock}, Refusal{Code: CodeDenied}
	for _, c := range []struct {
		answers []error
		want    Alarm
	}{{[]error{down, clock}, Clock}, {[]error{clock, unlisted}, NotListed}, {[]error{unlisted, clock}, NotListed}} {
		if r := Renew(2, func(i int) (Lease, error) { return Lease{}, c.answers[i] }); r.Alarm != c.want {
			t.Errorf("%v: alarm %q, want %q", c.answers, r.Alarm, c.want)
		}
	}
}

// A node under authorities that come and go, day by day: facts of the outcome table.
func TestWeeksOfANode(t *testing.T) {
	for what, c := range map[string]struct {
		up   func(day int) bool
		want string // verdict at noon of each day
	}{
		"renewed daily":          {func(int) bool { return true }, "VALID VALID VALID VALID VALID VALID VALID VALID VALID"},
		"away for a week":        {func(d int) bool { return d < 1 }, "VALID VALID VALID_WARN VALID_WARN VALID_WARN VALID_WARN VALID_WARN EXPIRED EXPIRED"},
		"back on the sixth day":  {func(d int) bool { return d < 1 || d >= 6 }, "VALID VALID VALID_WARN VALID_WARN VALID_WARN VALID_WARN VALID VALID VALID"},
		"back after it was over": {func(d int) bool { return d < 1 || d >= 8 }, "VALID VALID VALID_WARN VALID_WARN VALID_WARN VALID_WARN VALID_WARN EXPIRED VALID"},
	} {
		m := machine(sample)
		var kept Lease
		got := ""
		for d := range 9 {
			morning := time.Unix(t0, 0).Add(time.Duration(d) * 24 * time.Hour)
			r := Renew(1, func(int) (Lease, error) {
				if !c.up(d) {
					return Lease{}, errors.New("down")
				}
				g := grant()
				g.Issued, g.Expires = morning.Unix(), morning.Add(Term).Unix()
				return Sign(g, newIssuer("one").key, []byte("certificate of one")), nil
			})
			if r.Lease != nil {
				kept = r.Lease.Seal(m.Key)
			}
			noon := morning.Add(6 * time.Hour)
			v, l, err := m.Judge(file(t, kept), noon)
			if err != nil {
				t.Fatal(err)
			}
			kept, _ = m.Observe(l, v, noon)
			got += string(v) + " "
		}
		if got != c.want+" " {
			t.Errorf("%s:\n%s\nwant\n%s", what, got, c.want)
		}
	}
}
