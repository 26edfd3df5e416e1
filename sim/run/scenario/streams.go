package scenario

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ternmesh/tern/control"
	"github.com/ternmesh/tern/sim"
)

func (p *reader) streams() {
	if len(p.file.Streams) > MaxStreams {
		p.add("streams", "%d streams, at most %d", len(p.file.Streams), MaxStreams)
	}
	seen := make(map[string]bool)
	for i, f := range p.file.Streams {
		path := fmt.Sprintf("streams[%d]", i)
		if seen[f.Name] {
			p.add(path+".name", "there is another stream %q", f.Name)
		}
		seen[f.Name] = true
		p.s.Streams = append(p.s.Streams, p.stream(path, f))
	}
}

func (p *reader) stream(path string, f streamFile) Stream {
	s := Stream{
		Name: f.Name, From: f.From, To: f.To, App: f.App, Redundancy: f.Redundancy, Kind: f.Kind,
		PacketsPerSecond: p.whole(path+".packets_per_second", f.PacketsPerSecond, DefaultPackets, 1, MaxPacketsPerSecond),
		Size:             p.whole(path+".size", f.Size, DefaultSize, MinPacketBytes, MaxPacketBytes),
		FPS:              p.whole(path+".fps", f.FPS, DefaultFPS, 1, 240),
		Viewers:          p.whole(path+".viewers", f.Viewers, 1, 1, 10_000),
		Deadline:         p.duration(path+".deadline", f.Deadline, DefaultDeadline),
		Start:            p.duration(path+".start", f.Start, 0),
		Stop:             p.duration(path+".stop", f.Stop, p.s.Duration),
	}
	if !plainName.MatchString(f.Name) {
		p.add(path+".name", "%q must be 1 to 63 of a-z, 0-9 and -", f.Name)
	}
	p.node(path+".from", f.From)
	for i, to := range f.To {
		at := fmt.Sprintf("%s.to[%d]", path, i)
		if p.node(at, to) && slices.Contains(f.To[:i], to) {
			p.add(at, "%q is there twice: viewers sets how many watch at one node", to)
		}
	}
	if len(f.To) == 0 {
		p.add(path, "a stream needs at least one node in to")
	}
	if s.Start >= s.Stop || s.Stop > p.s.Duration {
		p.add(path, "it runs from %v to %v, which is not within the scenario's %v", s.Start, s.Stop, p.s.Duration)
	}
	s.WebRTC = f.WebRTC
	if f.LastMile != nil {
		if !f.WebRTC {
			p.add(path+".last_mile", "is of WebRTC clients: set webrtc: true")
		}
		p.change(path+".last_mile", *f.LastMile, sim.Link{}).Apply(&s.LastMile)
	}
	if f.NAT != "" {
		kind, ok := sim.NATKinds[f.NAT]
		if s.NAT = kind; !ok {
			p.add(path+".nat", "%q is not one of %s", f.NAT, strings.Join(slices.Sorted(maps.Keys(sim.NATKinds)), ", "))
		}
		if !f.WebRTC {
			p.add(path+".nat", "is of WebRTC clients: set webrtc: true")
		}
	}
	p.streamKinds(path, f, &s)
	return s
}

func (p *reader) streamKinds(path string, f streamFile, s *Stream) {
	if s.App == "" {
		s.App = DefaultApp
	}
	if s.Channel = f.Channel; s.Channel == "" {
		s.Channel = DefaultChannel
	}
	if !plainName.MatchString(s.Channel) {
		p.add(path+".channel", "%q must be 1 to 63 of a-z, 0-9 and -", s.Channel)
	}
	switch s.Redundancy {
	case "", control.RedundancyFull, control.RedundancyAdaptive, control.RedundancyOff:
	default:
		p.add(path+".redundancy", "%q is not one of full, adaptive, off", s.Redundancy)
	}
	switch s.Kind {
	case "":
		s.Kind = Video
	case Video, Audio:
	default:
		p.add(path+".kind", "%q is not one of video, audio", s.Kind)
	}
	if s.Kind == Video && s.PacketsPerSecond < s.FPS {
		if f.FPS != nil {
			p.add(path+".fps", "%d frames a second need at least as many packets, not %d", s.FPS, s.PacketsPerSecond)
		}
		s.FPS = s.PacketsPerSecond
	}
	if p.file.Policy == "" {
		p.appName(path+".app", s.App)
	}
	if p.s.Policy != nil {
		policy, err := control.Parse(p.s.Policy)
		if err == nil && !slices.ContainsFunc(policy.Apps, func(a control.App) bool { return a.ID == s.App }) {
			p.add(path+".app", "the policy has no app %q", s.App)
		}
	}
}

// appName holds the name of an app that the simulator will put into a policy against the rules for policies.
func (p *reader) appName(path, app string) {
	_, err := control.Parse(fmt.Appendf(nil, "regions: [{id: r}]\napps: [{id: %q, auth: %s}]\n", app, control.AuthAppID))
	var wrong control.Problems
	if errors.As(err, &wrong) {
		for _, one := range wrong {
			p.add(path, "%s", one.Reason)
		}
	}
}

// whole reads a number without a unit, within bounds.
func (p *reader) whole(path string, v *int, fallback, low, high int) int {
	switch {
	case v == nil:
		return fallback
	case *v < low || *v > high:
		p.add(path, "%d is not between %d and %d", *v, low, high)
		return fallback
	}
	return *v
}
