package sim

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

const packetSize = 1178 // 1,150 bytes and headers

// drive sends count packets through a lane, one every gap, and returns all arrivals with the packet's index.
func drive(l *lane, count int, gap time.Duration) (arrivals []arrival, indexes []int) {
	for i := range count {
		got := l.carry(int64(i)*int64(gap), packetSize, packetSize-28, nil)
		for _, a := range got {
			arrivals, indexes = append(arrivals, a), append(indexes, i)
		}
	}
	return arrivals, indexes
}

func within(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if math.Abs(got-want) > tolerance {
		t.Errorf("%s: got %.5f, want %.5f ± %.5f", what, got, want, tolerance)
	}
}

func TestDelayIsTheLinksDelayPlusExponentialJitter(t *testing.T) {
	l := &lane{seed: 1, link: Link{Delay: 50 * time.Millisecond, Jitter: 2 * time.Millisecond}}
	gap := 100 * time.Millisecond // so far apart that order never delays anyone
	const count = 200_000
	arrivals, _ := drive(l, count, gap)
	var extras []float64
	var sum float64
	for i, a := range arrivals {
		extra := float64(a.at-int64(i)*int64(gap)-int64(50*time.Millisecond)) / 1e6
		extras, sum = append(extras, extra), sum+extra
	}
	slices.Sort(extras)
	within(t, "mean jitter in ms", sum/count, 2, 0.03)
	within(t, "median jitter in ms (mean x ln 2)", extras[count/2], 2*math.Ln2, 0.03)
	within(t, "p99 jitter in ms (mean x ln 100)", extras[count*99/100], 2*math.Log(100), 0.2)
	if extras[0] < 0 || extras[count-1] > 20.1 {
		t.Errorf("jitter from %.3f to %.3f ms, want it between 0 and ten times the mean", extras[0], extras[count-1])
	}
}

func TestJitterAloneDoesNotReorder(t *testing.T) {
	l := &lane{seed: 2, link: Link{Delay: 10 * time.Millisecond, Jitter: 10 * time.Millisecond}}
	arrivals, _ := drive(l, 20_000, 100*time.Microsecond)
	for i := 1; i < len(arrivals); i++ {
		if arrivals[i].at <= arrivals[i-1].at {
			t.Fatalf("packet %d arrives at %d ns, not after the one before it (%d ns)", i, arrivals[i].at, arrivals[i-1].at)
		}
	}
}

func TestReorderHoldsBackItsShare(t *testing.T) {
	l := &lane{seed: 3, link: Link{Delay: 10 * time.Millisecond, Reorder: 0.05}}
	arrivals, _ := drive(l, 20_000, time.Millisecond)
	late := 0
	for i := 1; i < len(arrivals); i++ {
		if arrivals[i].at < arrivals[i-1].at {
			late++ // the packet before was held back past this one
		}
	}
	within(t, "share of packets overtaken", float64(late)/20_000, 0.05*0.95, 0.006)
	within(t, "share counted as reordered", float64(l.stats.Reordered)/20_000, 0.05, 0.006)
}

func TestIndependentLossHasItsRatioAndNoMemory(t *testing.T) {
	l := &lane{seed: 4, link: Link{Loss: 0.05}}
	const count = 400_000
	_, indexes := drive(l, count, time.Millisecond)
	pairs, lost, previous := 0, 0, -1
	for _, i := range append(indexes, count) {
		gap := i - previous - 1
		lost += gap
		pairs += max(0, gap-1) // losses that follow a loss
		previous = i
	}
	within(t, "loss", float64(lost)/count, 0.05, 0.0012)
	within(t, "loss after a loss", float64(pairs)/float64(lost), 0.05, 0.005)
	if uint64(lost) != l.stats.Lost {
		t.Errorf("counted %d lost, %d did not arrive", l.stats.Lost, lost)
	}
}

func TestGilbertElliottLosesInBursts(t *testing.T) {
	l := &lane{seed: 5, link: Link{GE: GilbertElliott{P: 0.004, R: 0.2}}}
	const count = 1_000_000
	_, indexes := drive(l, count, time.Millisecond)
	bursts, lost, previous := 0, 0, -1
	for _, i := range append(indexes, count) {
		if gap := i - previous - 1; gap > 0 {
			bursts, lost = bursts+1, lost+gap
		}
		previous = i
	}
	within(t, "loss, P/(P+R)", float64(lost)/count, 0.004/0.204, 0.0012)
	within(t, "mean burst, 1/R packets", float64(lost)/float64(bursts), 5, 0.25)
}

func TestRateSpacesPacketsAndDropsAtTheTail(t *testing.T) {
	const rate = 10_000_000 // 1,178 bytes take 942.4 us
	l := &lane{seed: 6, link: Link{Delay: time.Millisecond, Rate: rate, Queue: 20 * packetSize}}
	arrivals, _ := drive(l, 2000, 471*time.Microsecond) // twice the rate
	step := float64(packetSize) * 8e9 / rate
	for i := 1; i < len(arrivals); i++ {
		if d := float64(arrivals[i].at - arrivals[i-1].at); math.Abs(d-step) > 2 {
			t.Fatalf("packet %d arrives %.0f ns after the one before, the rate allows one every %.0f ns", i, d, step)
		}
	}
	seconds := float64(arrivals[len(arrivals)-1].at) / 1e9
	within(t, "Mbit/s carried", float64(len(arrivals)*packetSize*8)/seconds/1e6, 10, 0.05)
	if got := uint64(2000 - len(arrivals)); got != l.stats.QueueDrops || got < 900 {
		t.Errorf("%d packets missing, %d counted as queue drops; want about half of 2,000", got, l.stats.QueueDrops)
	}
	worst := 20*step + 1e6
	if d := float64(arrivals[len(arrivals)-1].at) - 1999*471_000; d > worst+step {
		t.Errorf("the last packet waited %.1f ms, a full queue and the delay are %.1f ms", d/1e6, worst/1e6)
	}
}

func TestDuplicateCorruptAndOversize(t *testing.T) {
	l := &lane{seed: 7, link: Link{Duplicate: 0.1, Corrupt: 0.2, MTU: 1200}}
	arrivals, indexes := drive(l, 20_000, time.Millisecond)
	flipped, copies := 0, 0
	for i, a := range arrivals {
		if i > 0 && indexes[i] == indexes[i-1] {
			copies++
			continue
		}
		if a.flip >= 0 {
			flipped++
		}
		if a.flip >= (packetSize-28)*8 {
			t.Fatalf("bit %d of a payload of %d bits", a.flip, (packetSize-28)*8)
		}
	}
	within(t, "duplicates", float64(copies)/20_000, 0.1, 0.01)
	within(t, "corrupted", float64(flipped)/20_000, 0.2, 0.012)
	if got := l.carry(0, 1201, 1173, nil); len(got) != 0 || l.stats.Oversize != 1 {
		t.Errorf("a packet of 1,201 bytes passed an MTU of 1,200: %v, oversize %d", got, l.stats.Oversize)
	}
}

func TestOneSettingDoesNotShiftAnothersDraws(t *testing.T) {
	plain := &lane{seed: 8, link: Link{Delay: 40 * time.Millisecond, Jitter: 3 * time.Millisecond}}
	lossy := &lane{seed: 8, link: plain.link}
	lossy.link.Loss, lossy.link.Duplicate = 0.1, 0
	all, _ := drive(plain, 5000, time.Second)
	some, indexes := drive(lossy, 5000, time.Second)
	for i, a := range some {
		if a != all[indexes[i]] {
			t.Fatalf("packet %d arrives at %d ns with loss on the link and at %d ns without", indexes[i], a.at, all[indexes[i]].at)
		}
	}
}

func TestJointLossDecidesPerSlot(t *testing.T) {
	j := jointLoss{p: 0.1, slot: time.Millisecond, seed: 9}
	lost := 0
	for slot := range int64(100_000) {
		start := slot * int64(time.Millisecond)
		if j.loses(start) != j.loses(start+999_999) {
			t.Fatalf("slot %d changes its mind", slot)
		}
		if j.loses(start) {
			lost++
		}
	}
	within(t, "slots lost", float64(lost)/100_000, 0.1, 0.004)
	if (jointLoss{p: 0, slot: time.Second}).loses(5) || (jointLoss{p: 1}).loses(5) {
		t.Error("joint loss without probability or slot must be off")
	}
}

func TestValidateNamesEveryFault(t *testing.T) {
	if err := (Link{Delay: time.Second, Loss: 1, GE: GilbertElliott{P: 0.1, R: 0.5}}).Validate(); err != nil {
		t.Errorf("a sound link was refused: %v", err)
	}
	err := Link{Delay: -1, Loss: 1.1, GE: GilbertElliott{R: math.NaN()}, Rate: -5}.Validate()
	for _, want := range []string{"loss is 1.1", "ge.r is NaN", "delay", "rate"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not mention %q", err, want)
		}
	}
}

func TestCarryAllocatesNothing(t *testing.T) {
	l := &lane{seed: 10, link: Link{Delay: time.Millisecond, Jitter: time.Millisecond, Loss: 0.1, Duplicate: 0.5, Rate: 1e9}}
	out := make([]arrival, 0, 4)
	now := int64(0)
	if got := testing.AllocsPerRun(1000, func() {
		now += 1e6
		out = l.carry(now, packetSize, packetSize-28, out[:0])
	}); got != 0 {
		t.Errorf("%v allocations per packet, want none", got)
	}
}
