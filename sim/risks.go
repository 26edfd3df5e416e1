package sim

// Share says that the direction between two hosts depends on a risk: a cable, a site, a provider. A direction may
// depend on many risks, and names of risks need no declaration.
func (n *Network) Share(risk, from, to string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.risks[risk] = append(n.risks[risk], n.lane(from, to))
}

// FailRisk cuts every direction that depends on the risk, as Link.Down would. Failures of one risk count: what failed
// twice must be mended twice.
func (n *Network) FailRisk(risk string) { n.moveRisk(risk, 1) }

// MendRisk undoes one FailRisk.
func (n *Network) MendRisk(risk string) { n.moveRisk(risk, -1) }

func (n *Network) moveRisk(risk string, by int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, ln := range n.risks[risk] {
		ln.cuts = max(0, ln.cuts+by)
	}
}

// SetTap shows every packet that any host sends to another's address, before its fate is decided; nil ends it. The
// function is called with the network locked: it must be quick and must not call the network. payload is
// valid during the call.
func (n *Network) SetTap(tap func(from, to string, payload []byte)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.tap = tap
}
