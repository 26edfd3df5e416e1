package lease

import (
	"testing"
	"time"
)

func date(s string) time.Time {
	t, err := time.Parse("2006-01-02", s)
	if err != nil {
		panic(err)
	}
	return t
}

func TestCalendarMonths(t *testing.T) {
	for in, want := range map[string]string{
		"2026-11-30": "2027-02-28", "2027-11-30": "2028-02-29", "2026-01-31": "2026-04-30", "2026-12-31": "2027-03-31", "2026-05-15": "2026-08-15",
	} {
		if got := addMonths(date(in), 3).Format("2006-01-02"); got != want {
			t.Errorf("%s and three months is %s, want %s", in, got, want)
		}
	}
}

func TestEveryStepOfAnAuthority(t *testing.T) {
	end := date("2026-06-30")
	listed := Answer{Reached: true, Listed: true, ContractEnd: end}
	renewed := Answer{Reached: true, Listed: true, ContractEnd: date("2027-06-30")}
	refused, silent := Answer{Reached: true}, Answer{}
	in := func(p Phase) Authority {
		a := Authority{Phase: p}
		if p == PhaseActive || p == PhaseGrace {
			a.ContractEnd = end
		}
		return a
	}
	for _, c := range []struct {
		from   Phase
		at     string
		answer Answer
		want   Phase
	}{
		{PhaseStart, "2026-01-01", listed, PhaseActive},
		{PhaseStart, "2026-06-30", listed, PhaseActive}, // the last day
		{PhaseStart, "2026-07-01", listed, PhaseGrace},
		{PhaseStart, "2026-10-01", listed, PhaseStopped},
		{PhaseStart, "2026-01-01", refused, PhaseRefused},
		{PhaseStart, "2026-01-01", silent, PhaseUnverified},
		{PhaseUnverified, "2026-01-01", silent, PhaseUnverified},
		{PhaseUnverified, "2026-01-01", listed, PhaseActive},
		{PhaseUnverified, "2026-01-01", refused, PhaseRefused},
		{PhaseActive, "2026-01-01", silent, PhaseActive}, // the root is down: who serves goes on
		{PhaseActive, "2026-07-01", silent, PhaseGrace},
		{PhaseActive, "2026-01-01", refused, PhaseRefused},
		{PhaseGrace, "2026-07-15", renewed, PhaseActive}, // no restart is needed
		{PhaseGrace, "2026-09-30", silent, PhaseGrace},
		{PhaseGrace, "2026-10-01", silent, PhaseStopped},
		{PhaseGrace, "2026-10-01", listed, PhaseStopped},
		{PhaseGrace, "2026-10-01", renewed, PhaseActive},
		{PhaseStopped, "2026-01-01", renewed, PhaseStopped}, // only a restart helps
		{PhaseRefused, "2026-01-01", renewed, PhaseRefused},
	} {
		got := in(c.from).Heard(date(c.at), c.answer)
		if got.Phase != c.want {
			t.Errorf("%s on %s, answer %+v: %s, want %s", c.from, c.at, c.answer, got.Phase, c.want)
		}
		if serves := got.Phase == PhaseActive || got.Phase == PhaseGrace; got.Serves() != serves || got.Ended() != (got.Phase == PhaseStopped || got.Phase == PhaseRefused) {
			t.Errorf("%s: serves %v, ended %v", got.Phase, got.Serves(), got.Ended())
		}
	}
}

func TestTimePassesAtAnAuthority(t *testing.T) {
	a := Authority{}.Heard(date("2026-01-01"), Answer{Reached: true, Listed: true, ContractEnd: date("2026-06-30")})
	for _, c := range []struct {
		at   string
		want Phase
		ask  bool
	}{
		{"2026-06-30", PhaseActive, false}, {"2026-07-01", PhaseGrace, false}, {"2026-09-30", PhaseGrace, false}, {"2026-10-01", PhaseGrace, true},
	} {
		var ask bool
		if a, ask = a.Tick(date(c.at)); a.Phase != c.want || ask != c.ask {
			t.Errorf("%s: %s, ask %v; want %s, %v", c.at, a.Phase, ask, c.want, c.ask)
		}
	}
	if a, ask := (Authority{Phase: PhaseUnverified}).Tick(date("2026-01-01")); a.Phase != PhaseUnverified || ask {
		t.Error("an authority that serves nobody has no time to run out")
	}
}

func TestTheSpanOfAContractEndsInTime(t *testing.T) {
	for d := date("2027-01-01"); d.Before(date("2029-01-01")); d = d.AddDate(0, 0, 1) {
		end := Authority{ContractEnd: ContractUntil(d)}.SpanEnd()
		if end.After(d) || d.Sub(end) > 3*24*time.Hour {
			t.Errorf("a certificate until %v is good for serving until %v", d, end)
		}
	}
}

func TestALeaseDoesNotOutliveItsAuthority(t *testing.T) {
	a := Authority{Phase: PhaseGrace, ContractEnd: date("2026-06-30")}
	for at, want := range map[string]string{"2026-07-01": "2026-07-08", "2026-09-29": "2026-09-30", "2026-09-23": "2026-09-30"} {
		if got := a.Term(date(at)).Format("2006-01-02"); got != want {
			t.Errorf("a lease of %s ends on %s, want %s", at, got, want)
		}
	}
}
