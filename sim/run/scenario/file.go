package scenario

// file is a scenario as written. Scalars with a unit are text, so that every one of them is read by this package and
// every fault is reported; values that may be of several shapes are any.
type file struct {
	Name     string              `yaml:"name"`
	About    string              `yaml:"about"`
	Duration string              `yaml:"duration"`
	Warmup   string              `yaml:"warmup"`
	Seed     uint64              `yaml:"seed"`
	Nodes    map[string]nodeFile `yaml:"nodes"`
	Links    linksFile           `yaml:"links"`
	Policy   string              `yaml:"policy"`
	Streams  []streamFile        `yaml:"streams"`
	Events   []eventFile         `yaml:"events"`
}

type nodeFile struct {
	Region     string   `yaml:"region"`
	City       string   `yaml:"city"`
	Provider   string   `yaml:"provider"`
	SharedRisk []string `yaml:"shared_risk"`
	Voter      *bool    `yaml:"voter"`
	JointLoss  string   `yaml:"joint_loss"`
	Uplink     string   `yaml:"uplink"`
	Clock      string   `yaml:"clock"` // how far ahead; -2s: behind
	NAT        string   `yaml:"nat"`   // static or nothing
}

type linksFile struct {
	Matrix  string     `yaml:"matrix"`
	Default *linkFile  `yaml:"default"`
	Pairs   []pairFile `yaml:"pairs"`
}

// linkFile is what one direction does to packets.
type linkFile struct {
	Delay        string `yaml:"delay"`
	Jitter       any    `yaml:"jitter"` // 3ms, or {mean: 3ms, model: lognormal}
	Loss         any    `yaml:"loss"`   // 1%, or {ge: {p, r, bad, good}}, or {profile: NAME}, or {trace: FILE}
	Rate         string `yaml:"rate"`
	Queue        string `yaml:"queue"`
	MTU          string `yaml:"mtu"`
	Reorder      string `yaml:"reorder"`
	ReorderDelay string `yaml:"reorder_delay"`
	Duplicate    string `yaml:"duplicate"`
	Corrupt      string `yaml:"corrupt"`
	Down         bool   `yaml:"down"`
}

type pairFile struct {
	From       string   `yaml:"from"`
	To         string   `yaml:"to"`
	Both       bool     `yaml:"both"`
	SharedRisk []string `yaml:"shared_risk"`
	Settings   linkFile `yaml:",inline"`
}

type streamFile struct {
	Name             string    `yaml:"name"`
	From             string    `yaml:"from"`
	To               []string  `yaml:"to"`
	PacketsPerSecond *int      `yaml:"packets_per_second"`
	Size             *int      `yaml:"size"`
	App              string    `yaml:"app"`
	Channel          string    `yaml:"channel"`
	Redundancy       string    `yaml:"redundancy"`
	Kind             string    `yaml:"kind"`
	FPS              *int      `yaml:"fps"`
	Deadline         string    `yaml:"deadline"`
	Start            string    `yaml:"start"`
	Stop             string    `yaml:"stop"`
	Viewers          *int      `yaml:"viewers"`
	WebRTC           bool      `yaml:"webrtc"`
	LastMile         *linkFile `yaml:"last_mile"`
	NAT              string    `yaml:"nat"`
}

type eventFile struct {
	At         string     `yaml:"at"`
	For        string     `yaml:"for"`
	Every      string     `yaml:"every"`
	Times      int        `yaml:"times"`
	Link       any        `yaml:"link"` // a-b, or [a, b]
	OneWay     bool       `yaml:"one_way"`
	Node       string     `yaml:"node"`
	Region     string     `yaml:"region"`
	SharedRisk string     `yaml:"shared_risk"`
	LastMile   string     `yaml:"last_mile"` // of all clients of a stream
	Action     string     `yaml:"action"`
	Partition  [][]string `yaml:"partition"`
	Policy     string     `yaml:"policy"`
	AddDelay   string     `yaml:"add_delay"`
	JointLoss  string     `yaml:"joint_loss"`
	By         string     `yaml:"by"` // of action: skew
	Flood      *floodFile `yaml:"flood"`
	Settings   linkFile   `yaml:",inline"`
}

type floodFile struct {
	PacketsPerSecond int `yaml:"packets_per_second"`
	Size             int `yaml:"size"`
}
