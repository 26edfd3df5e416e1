package gate

import "slices"

// Roles of callers, as the policy and certificates write them.
const (
	Operator = "operator" // everything
	Auditor  = "auditor"  // reads everything
	Metrics  = "metrics"  // reads the metrics
	App      = "app"      // reads what concerns its own apps, and changes it
)

// Right is what a route needs.
type Right uint8

// The rights, each with the roles that have it.
const (
	Operate     Right = iota // operator; the zero value is the narrowest
	ChangeOwn                // and app, which the route must keep to Caller.Apps
	Read                     // operator and auditor
	ReadOwn                  // and app, which the route must keep to Caller.Sees
	ReadMetrics              // operator, auditor, metrics
	Everybody                // whoever reaches the listener
)

// Caller is who sends a request.
type Caller struct {
	Name string   // of the token or certificate; "uid 0" at the socket; "" for nobody known
	Role string   // "" has no right but Everybody
	Apps []string // with App
	By   string   // "socket", "certificate" or "token"
}

// May says whether a caller has a right.
func (c Caller) May(r Right) bool {
	switch r {
	case Everybody:
		return true
	case ReadMetrics:
		return c.Role == Operator || c.Role == Auditor || c.Role == Metrics
	case ChangeOwn:
		return c.Role == Operator || c.Role == App
	case ReadOwn:
		return c.Role == Operator || c.Role == Auditor || c.Role == App
	case Read:
		return c.Role == Operator || c.Role == Auditor
	}
	return c.Role == Operator
}

// Sees says whether what concerns an app ("" is no app in particular) is for the caller's eyes.
func (c Caller) Sees(app string) bool {
	return c.May(Read) || c.Role == App && slices.Contains(c.Apps, app)
}

// String is for histories: who, in which role, proved by what.
func (c Caller) String() string {
	if c.Role == "" {
		return "nobody known"
	}
	return c.Role + " " + c.Name + " by " + c.By
}
