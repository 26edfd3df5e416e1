package sim

import (
	"errors"
	"fmt"
	"time"
)

// Link says what one direction between two hosts does to packets. The zero value carries everything at once, in
// order and unharmed.
type Link struct {
	// Delay is the one-way propagation delay.
	Delay time.Duration
	// Jitter is the mean of an additional delay, distributed as JitterModel says and cut at jitterCut times the mean.
	// It does not reorder: a packet that would overtake arrives right behind the one before it.
	Jitter      time.Duration
	JitterModel JitterModel
	// Loss is the independent probability that a packet is lost, 0 to 1.
	Loss float64
	// Down drops everything that is sent while it is set. Packets already under way arrive.
	Down bool

	// GE adds bursts of loss; off while GE.P is 0.
	GE GilbertElliott
	// Trace adds loss that follows a recording; off while it is empty.
	Trace LossTrace
	// Reorder is the share of packets held back by ReorderDelay (zero: 5 ms) and overtaken by later ones.
	Reorder      float64
	ReorderDelay time.Duration
	// Duplicate is the share of packets that arrive twice.
	Duplicate float64
	// Corrupt is the share of packets that arrive with one bit flipped, as from a middlebox that mends checksums.
	Corrupt float64

	// Rate in bit/s, IP and UDP headers included; 0 is unlimited.
	Rate int64
	// Queue in bytes in front of a limited Rate, drop-tail. Zero: 100 ms at Rate, at least ten full packets.
	Queue int
	// MTU in bytes, IP and UDP headers included; larger packets vanish. Zero: 1500.
	MTU int
}

// GilbertElliott is a two-state loss model: each packet first moves the state, then is lost by the state's
// probability. With LossBad 1 a burst of loss lasts 1/R packets on average, and P/(P+R) of all packets are lost.
type GilbertElliott struct {
	// P is the probability of going from good to bad, R of going from bad to good.
	P, R float64
	// LossBad and LossGood are the loss probabilities of the states; a LossBad of zero means 1.
	LossBad, LossGood float64
}

const (
	defaultMTU          = 1500
	defaultReorderDelay = 5 * time.Millisecond
	jitterCut           = 10
)

// Validate reports every setting that makes no sense, for those who read links from a file. SetLink itself
// does not fail; it treats a probability outside 0..1 as the nearer end and a negative value as zero.
func (l Link) Validate() error {
	var errs []error
	shares := []struct {
		name  string
		value float64
	}{
		{"loss", l.Loss}, {"ge.p", l.GE.P}, {"ge.r", l.GE.R}, {"ge.loss_bad", l.GE.LossBad},
		{"ge.loss_good", l.GE.LossGood}, {"reorder", l.Reorder}, {"duplicate", l.Duplicate}, {"corrupt", l.Corrupt},
	}
	for _, s := range shares {
		if !(s.value >= 0 && s.value <= 1) { // so written that NaN fails
			errs = append(errs, fmt.Errorf("%s is %v, want a share between 0 and 1", s.name, s.value))
		}
	}
	if l.Delay < 0 || l.Jitter < 0 || l.ReorderDelay < 0 {
		errs = append(errs, errors.New("delay, jitter and reorder delay must not be negative"))
	}
	if !l.JitterModel.known() {
		errs = append(errs, fmt.Errorf("jitter model %d does not exist", l.JitterModel))
	}
	if err := l.Trace.validate(); err != nil {
		errs = append(errs, err)
	}
	if l.Rate < 0 || l.Queue < 0 || l.MTU < 0 {
		errs = append(errs, errors.New("rate, queue and MTU must not be negative"))
	}
	return errors.Join(errs...)
}

// mtu is the effective MTU in bytes.
func (l *Link) mtu() int {
	if l.MTU <= 0 {
		return defaultMTU
	}
	return l.MTU
}

// queue is the effective queue bound in bytes.
func (l *Link) queue() int64 {
	if l.Queue > 0 {
		return int64(l.Queue)
	}
	return max(l.Rate/8/10, 10*defaultMTU)
}

// LinkStats counts the packets of one direction since the network was made.
type LinkStats struct {
	// Sent counts packets handed to the link, Bytes their size with IP and UDP headers.
	Sent, Bytes uint64
	// Delivered counts arrivals that found a listener with room, duplicates included.
	Delivered uint64
	// Lost counts independent and burst losses, JointLost those of SetJointLoss.
	Lost, JointLost uint64
	// QueueDrops counts drop-tail losses, Oversize packets above the MTU.
	QueueDrops, Oversize uint64
	// Cut counts packets stopped by Down, a killed host or a partition.
	Cut uint64
	// Reordered, Duplicated and Corrupted count what the link did to packets that it carried.
	Reordered, Duplicated, Corrupted uint64
}
