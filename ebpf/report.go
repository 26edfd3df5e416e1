package ebpf

import (
	"net/netip"
	"slices"
	"time"
)

// Report is a Filter's state as people and tools read it.
type Report struct {
	Mode       string       `json:"mode"`
	Why        string       `json:"why,omitempty"` // why the kernel does not filter
	Interfaces []Attachment `json:"interfaces"`
	Rules      int          `json:"rules"`

	Peers        int    `json:"peers"`         // known addresses on the mesh port
	Clients      int    `json:"clients"`       // admitted addresses and ports on the access port
	Quarantined  int    `json:"quarantined"`   // sources kept out for a while
	NoRoom       uint64 `json:"no_room"`       // known addresses and sources in quarantine that did not fit, or made room for others
	KernelErrors uint64 `json:"kernel_errors"` // entries that the kernel did not take

	Relayed uint64 `json:"relayed"` // path frames that the kernel sent on for other nodes

	Counts      []ReportCount  `json:"counts"`
	Top         []ReportSource `json:"top"`          // of the sampled drops, most first
	Samples     uint64         `json:"samples"`      // drops sampled
	SamplesLost uint64         `json:"samples_lost"` // samples that nobody could take in time
}

// ReportCount is how often one verdict was given; Where is xdp or go.
type ReportCount struct {
	Where   string `json:"where"`
	Verdict string `json:"verdict"`
	Class   string `json:"class"`
	Reason  string `json:"reason"`
	Packets uint64 `json:"packets"`
}

// ReportSource is a source of sampled drops, with its latest class and reason. A source may be forged.
type ReportSource struct {
	Source  netip.Addr `json:"source"`
	Samples uint64     `json:"samples"`
	Class   string     `json:"class"`
	Reason  string     `json:"reason"`
	First   time.Time  `json:"first"`
	Last    time.Time  `json:"last"`
}

// Report returns a snapshot.
func (f *Filter) Report() Report {
	st, stats, live := f.Status(), f.Stats(), f.LiveStats()
	r := Report{
		Mode: st.Mode, Why: st.Why, Interfaces: st.Interfaces, Rules: stats.Rules, Peers: live.Peers, Clients: live.Flows,
		Quarantined: live.Walls,
		NoRoom:      live.PeersRefused + live.FlowsEvicted + live.WallsEvicted, KernelErrors: live.KernelErrors,
		Relayed: f.OnwardTotals().Frames,
	}
	for _, part := range []struct {
		where  string
		counts []Count
	}{{"xdp", stats.XDP}, {"go", stats.Go}} {
		for _, c := range part.counts {
			r.Counts = append(r.Counts, ReportCount{
				Where: part.where, Verdict: c.Reason.Action().String(), Class: c.Class.String(), Reason: c.Reason.String(), Packets: c.Packets,
			})
		}
	}
	slices.SortStableFunc(r.Counts, func(a, b ReportCount) int { return int(min(b.Packets, 1<<62)) - int(min(a.Packets, 1<<62)) })
	r.Top, r.Samples, r.SamplesLost = f.drops.report()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.kernel != nil {
		r.SamplesLost += f.kernel.samplesLost()
	}
	return r
}
