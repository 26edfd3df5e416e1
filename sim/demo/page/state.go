package page

import "time"

// State is what the page draws.
type State struct {
	Cities  []City  `json:"cities"`
	Flows   []Flow  `json:"flows"`
	Events  []Event `json:"events"` // oldest first
	Suggest Suggest `json:"suggest"`
	// TestCity is the node at which the test stream enters, "" while it is off.
	TestCity string `json:"test_city"`
	// Lossy says that 5 % is being lost on every path.
	Lossy bool `json:"lossy"`
}

// City is a node; latitude and longitude in degrees, north and east positive.
type City struct {
	Node      string  `json:"node"`
	City      string  `json:"city"`
	Region    string  `json:"region"`
	Lat       float64 `json:"lat"`
	Lon       float64 `json:"lon"`
	Voter     bool    `json:"voter"`
	Alive     bool    `json:"alive"`
	AccessURL string  `json:"access_url"`
}

// Flow is media from one node to another, as the receiving node counts it.
type Flow struct {
	From        string `json:"from"`
	To          string `json:"to"`
	Paths       []Path `json:"paths"`
	Delivered   uint64 `json:"delivered"`
	Undelivered uint64 `json:"undelivered"`
	Duplicates  uint64 `json:"duplicates"`
	Repaired    uint64 `json:"repaired"`
}

// Path is one path of a flow. LossPercent covers the last seconds, the counters everything since the path began.
type Path struct {
	Hops        []string `json:"hops"`
	Active      bool     `json:"active"`
	Alive       bool     `json:"alive"`
	Sent        uint64   `json:"sent"`
	Lost        uint64   `json:"lost"`
	First       uint64   `json:"first"`
	Rescued     uint64   `json:"rescued"`
	DelayMS     float64  `json:"delay_ms"`
	JitterMS    float64  `json:"jitter_ms"`
	LossPercent float64  `json:"loss_percent"`
}

// Event is a line of the log.
type Event struct {
	At   time.Time `json:"at"`
	Text string    `json:"text"`
}

// Suggest names a pair of cities with three good paths between them.
type Suggest struct {
	Publish string `json:"publish"`
	Watch   string `json:"watch"`
}

// Session is what a browser needs to enter.
type Session struct {
	App   string `json:"app"`
	Token string `json:"token"`
}

// What an Action may do.
const (
	Lose       = "lose"        // 5 % on every path
	StopLosing = "stop_losing" // back to normal
	KillRelay  = "kill_relay"  // a relay of a path in use between From and To
	KillDirect = "kill_direct" // the link between From and To
	Heal       = "heal"        // revive nodes and links, stop losing
	TestStart  = "test_start"  // the test stream, at City
	TestStop   = "test_stop"
)

// Action is what a button does.
type Action struct {
	Do   string `json:"do"`
	City string `json:"city"`
	From string `json:"from"`
	To   string `json:"to"`
}
