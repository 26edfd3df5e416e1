package access

import (
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"
)

// listen reads a track's RTCP: requests for keyframes, and for packets that were lost. It
// ends when the peer is closed.
func (v *viewer) listen(t *viewerTrack, sender *webrtc.RTPSender) {
	buf := make([]byte, packetBuffer)
	var last time.Time
	for {
		n, _, err := sender.Read(buf)
		if err != nil {
			return
		}
		all, err := rtcp.Unmarshal(buf[:n])
		if err != nil {
			continue
		}
		now := time.Now()
		if asksKeyframe(all) && now.Sub(last) >= keyframeEvery {
			last = now
			v.asked.Add(1)
			v.askKeyframe(int(t.at.Load()))
		}
		for _, p := range all {
			v.told(t, p, now)
		}
	}
}

// told takes one report of the viewer.
func (v *viewer) told(t *viewerTrack, p rtcp.Packet, now time.Time) {
	switch p := p.(type) {
	case *rtcp.TransportLayerNack:
		if p.MediaSSRC == t.ssrc && t.Kind() == webrtc.RTPCodecTypeVideo { // none is agreed for audio
			v.resend(t, lostOf(p))
		}
	case *rtcp.ReceiverReport:
		v.reported(t, p.Reports, now)
	case *rtcp.TransportLayerCC:
		v.measure(now, func(e *estimator) { e.feedback(now, p) })
	case *rtcp.ReceiverEstimatedMaximumBitrate:
		v.measure(now, func(e *estimator) { e.capped(now, float64(p.Bitrate)) })
	}
}

// measure changes the estimate of the viewer's last mile.
func (v *viewer) measure(now time.Time, change func(*estimator)) {
	s := v.shard.Load()
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&v.mile)
	if bps, ok := v.mile.rate(now); ok {
		v.estimate.Store(uint64(bps))
	}
}

// reported takes the round trip from a receiver report (RFC 3550, 6.4.1).
func (v *viewer) reported(t *viewerTrack, reports []rtcp.ReceptionReport, now time.Time) {
	s := v.shard.Load()
	for _, r := range reports {
		trip := uint32(ntp(now)>>16) - r.LastSenderReport - r.Delay
		if s == nil || r.SSRC != t.ssrc || r.LastSenderReport == 0 || int32(trip) < 0 {
			continue
		}
		s.mu.Lock()
		t.trip = time.Duration(trip) * time.Second / 65536
		s.mu.Unlock()
	}
}

// lostOf lists what a NACK names.
func lostOf(n *rtcp.TransportLayerNack) (lost []uint16) {
	for i := range n.Nacks {
		lost = append(lost, n.Nacks[i].PacketList()...)
	}
	return lost
}

// wantsKeyframe finds a PLI or FIR in a compound RTCP packet.
func wantsKeyframe(b []byte) bool {
	all, err := rtcp.Unmarshal(b)
	return err == nil && asksKeyframe(all)
}

func asksKeyframe(all []rtcp.Packet) bool {
	for _, p := range all {
		switch p.(type) {
		case *rtcp.PictureLossIndication, *rtcp.FullIntraRequest:
			return true
		}
	}
	return false
}
