package conformance

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// Protocols that Run knows.
const (
	WHIP = "whip"
	WHEP = "whep"
)

// Config of a run. URL is the endpoint; for WHEP something must be live behind it, and
// EmptyURL may name an endpoint where nothing is.
type Config struct {
	Protocol string
	URL      string
	EmptyURL string
	Token    string        // Authorization: Bearer; "" sends none
	Timeout  time.Duration // of one check; 0: 10 s
	Client   *http.Client  // nil: one that follows no redirects
}

// Level is how much a requirement demands.
type Level string

// Levels, as in RFC 2119.
const (
	Must   Level = "must"
	Should Level = "should"
	May    Level = "may"
)

// Outcome of a check.
type Outcome string

// Outcomes. A skipped check says why in its detail.
const (
	Passed  Outcome = "passed"
	Failed  Outcome = "failed"
	Skipped Outcome = "skipped"
)

// Result is one check's.
type Result struct {
	Name    string  `json:"name"`
	Level   Level   `json:"level"`
	Asks    string  `json:"asks"` // the requirement
	Source  string  `json:"source"`
	Outcome Outcome `json:"outcome"`
	Detail  string  `json:"detail,omitempty"` // what was seen instead
}

// Report is what a run found.
type Report struct {
	Protocol   string   `json:"protocol"`
	URL        string   `json:"url"`
	Conforming bool     `json:"conforming"` // no must failed
	Results    []Result `json:"results"`
}

// Count returns how many checks had an outcome.
func (r Report) Count(o Outcome) (n int) {
	for _, one := range r.Results {
		if one.Outcome == o {
			n++
		}
	}
	return n
}

// check is one question. It returns nil, an error that says what was seen, or a skip.
type check struct {
	name   string
	level  Level
	asks   string
	source string
	ask    func(ctx context.Context, c *client) error
}

// skip ends a check that does not apply.
type skip string

func (s skip) Error() string { return string(s) }

// Run asks everything. It fails only if nothing can be asked at all; what the server did
// wrong is in the report.
func Run(ctx context.Context, cfg Config) (Report, error) {
	u, err := url.Parse(cfg.URL)
	checks := map[string][]check{WHIP: whipChecks, WHEP: whepChecks}[cfg.Protocol]
	switch {
	case checks == nil:
		return Report{}, fmt.Errorf("protocol %q is neither %s nor %s", cfg.Protocol, WHIP, WHEP)
	case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "":
		return Report{}, fmt.Errorf("%q is not the http(s) URL of an endpoint", cfg.URL)
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	if cfg.Client == nil {
		cfg.Client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	report := Report{Protocol: cfg.Protocol, URL: cfg.URL, Conforming: true}
	for _, one := range checks {
		r := one.run(ctx, cfg)
		report.Conforming = report.Conforming && (r.Outcome != Failed || r.Level != Must)
		report.Results = append(report.Results, r)
		if ctx.Err() != nil {
			return report, ctx.Err()
		}
	}
	return report, nil
}

func (k check) run(ctx context.Context, cfg Config) Result {
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	c := &client{cfg: cfg}
	defer c.close()
	r := Result{Name: k.name, Level: k.level, Asks: k.asks, Source: k.source, Outcome: Passed}
	err := k.ask(ctx, c)
	var skipped skip
	switch {
	case errors.As(err, &skipped):
		r.Outcome, r.Detail = Skipped, skipped.Error()
	case err != nil:
		r.Outcome, r.Detail = Failed, err.Error()
	}
	return r
}
