package access

import (
	"encoding/binary"
	"time"

	"github.com/pion/rtcp"
)

// isRTCP tells RTCP from RTP on one port (RFC 5761).
func isRTCP(b []byte) bool { return len(b) >= 8 && b[0]>>6 == 2 && b[1] >= 192 && b[1] <= 223 }

// reception is what a receiver report says of one source (RFC 3550, 6.4.1 and A.8). The
// zero value is ready. Not for concurrent use.
type reception struct {
	ssrc                           uint32
	started                        bool
	first, highest                 uint32 // extended sequence numbers
	received                       uint32
	expectedBefore, receivedBefore uint32 // at the last report
	transit                        int64  // of the last packet, in clock ticks
	jitter                         float64
	senderReport                   uint32 // middle of the last SR's NTP time
	senderReportAt                 time.Time
}

// packet takes note of an RTP packet of at least 12 bytes.
func (r *reception) packet(b []byte, now time.Time, rate uint32) {
	seq, ts, ssrc := binary.BigEndian.Uint16(b[2:]), binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:])
	transit := now.UnixMicro()*int64(rate)/1e6 - int64(ts)
	if !r.started || ssrc != r.ssrc {
		*r = reception{ssrc: ssrc, started: true, first: uint32(seq), highest: uint32(seq), transit: transit}
	}
	if d := int16(seq - uint16(r.highest)); d > 0 {
		r.highest += uint32(d)
	}
	r.received++
	if d := transit - r.transit; -(1<<31) < d && d < 1<<31 { // a clock that wrapped is no jitter
		r.jitter += (float64(max(d, -d)) - r.jitter) / 16
	}
	r.transit = transit
}

// sender takes note of a sender report.
func (r *reception) sender(sr *rtcp.SenderReport, now time.Time) {
	r.senderReport, r.senderReportAt = uint32(sr.NTPTime>>16), now
}

// report is the block of a receiver report; losses are counted since the last one.
func (r *reception) report(now time.Time) rtcp.ReceptionReport {
	expected := r.highest - r.first + 1
	lost := max(0, int64(expected)-int64(r.received))
	interval := int64(expected) - int64(r.expectedBefore)
	missed := interval - (int64(r.received) - int64(r.receivedBefore))
	r.expectedBefore, r.receivedBefore = expected, r.received
	out := rtcp.ReceptionReport{SSRC: r.ssrc, LastSequenceNumber: r.highest, TotalLost: uint32(min(lost, 1<<23-1)),
		Jitter: uint32(r.jitter), LastSenderReport: r.senderReport}
	if interval > 0 && missed > 0 {
		out.FractionLost = uint8(min(255, missed*256/interval))
	}
	if !r.senderReportAt.IsZero() {
		out.Delay = uint32(now.Sub(r.senderReportAt).Seconds() * 65536)
	}
	return out
}

// ntp is a time as sender reports have it: seconds since 1900, 32 bits of fraction.
func ntp(t time.Time) uint64 {
	const since1900 = 2208988800
	return uint64(t.Unix()+since1900)<<32 | uint64(t.Nanosecond())<<32/1e9
}
