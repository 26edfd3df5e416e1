package ebpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	cebpf "github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// kernel is the loaded XDP program, its maps and its links. Filter.mu guards it; tests that have no Filter own it.
type kernel struct {
	objs  filterObjects
	list4 *cebpf.MapSpec // of one generation's blocklist
	list6 *cebpf.MapSpec
	gen   uint32 // the generation in use, 0 or 1
	links map[string]held
	guard *guard // whose keys and limits the settings carry
	shift uint64 // the kernel's clock minus the twin's
}

// openKernel loads the program and gives it the rules. twin is the twin's clock, in nanoseconds, which the program's is set
// by; nil for test runs alone, which bring their own time. The error wraps ErrUnsupported.
func openKernel(t *Table, g *guard, twin func() uint64) (*kernel, error) {
	k, err := loadKernel()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnsupported, plainly(err))
	}
	k.guard = g
	if twin != nil {
		err = k.setClock(twin)
	}
	if err == nil {
		err = k.replace(t)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", ErrUnsupported, err), k.close())
	}
	return k, nil
}

func (k *kernel) setClock(twin func() uint64) error {
	now, err := k.clock()
	k.shift = now - twin()
	return err
}

// clock is the time that the program reads, in nanoseconds: the kernel's jiffies, which follow its monotonic clock.
func (k *kernel) clock() (uint64, error) {
	if _, err := k.objs.TernClock.Run(&cebpf.RunOptions{Data: make([]byte, 64)}); err != nil {
		return 0, fmt.Errorf("read the kernel's clock: %w", err)
	}
	var jiffies uint64
	if err := k.objs.TestClock.Lookup(uint32(0), &jiffies); err != nil {
		return 0, fmt.Errorf("read the kernel's clock: %w", err)
	}
	return jiffies * tickNS(), nil
}

// tickNS is the length of a jiffy, which is what the coarse clock moves by.
func tickNS() uint64 {
	var ts unix.Timespec
	_ = unix.ClockGetres(unix.CLOCK_MONOTONIC_COARSE, &ts) // cannot fail for this clock
	return uint64(ts.Nano())
}

func loadKernel() (*kernel, error) {
	// Kernels before 5.11 charge maps to this limit; on others it does nothing, and a failure shows in the load.
	_ = rlimit.RemoveMemlock()
	spec, err := loadFilter()
	if err != nil {
		return nil, err
	}
	k := &kernel{
		list4: spec.Maps[filterMapBlocklist4].InnerMap, list6: spec.Maps[filterMapBlocklist6].InnerMap,
		links: map[string]held{},
	}
	if err := spec.LoadAndAssign(&k.objs, nil); err != nil {
		return nil, fmt.Errorf("load the XDP program: %w", err)
	}
	return k, nil
}

// errNotPermitted is what a process without privileges reads instead of what the kernel answers, which names one map or one
// instruction, and a memory limit that has nothing to do with it.
var errNotPermitted = errors.New("not permitted: it takes root, or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, and a kernel that is not locked down")

// plainly says what an operator can do about a load that failed; what is no matter of privileges stays as it is.
func plainly(err error) error {
	refused := (*cebpf.VerifierError)(nil)
	unprivileged := errors.As(err, &refused) && strings.Contains(strings.Join(refused.Log, " "), "!root")
	if unprivileged || errors.Is(err, unix.EPERM) {
		return errNotPermitted
	}
	return err
}

// close detaches and unloads.
func (k *kernel) close() error { return errors.Join(k.detach(), k.objs.Close()) }

// replace fills the generation that no packet reads, switches to it with one store, waits until no packet can still be
// reading the other, and empties that. On an error before the switch the old rules stay in force.
func (k *kernel) replace(t *Table) error {
	next := 1 - k.gen
	v4, err := fill(k.list4, t.v4.image(true))
	if err != nil {
		return err
	}
	defer closeMap(v4)
	v6, err := fill(k.list6, t.v6.image(false))
	if err != nil {
		return err
	}
	defer closeMap(v6)
	err = errors.Join(setInner(k.objs.Blocklist4, next, v4), setInner(k.objs.Blocklist6, next, v6),
		k.objs.Settings.Put(next, settingsOf(t.rules, k.guard, k.shift)))
	if err != nil {
		return fmt.Errorf("write the rules: %w", err)
	}
	// The values are 0 and 1, so the store changes one byte and cannot tear.
	if err := k.objs.Active.Put(uint32(0), next); err != nil {
		return fmt.Errorf("switch to the new rules: %w", err)
	}
	old := k.gen
	k.gen = next
	return errors.Join(k.quiesce(v4), setInner(k.objs.Blocklist4, old, nil), setInner(k.objs.Blocklist6, old, nil))
}

// quiesce returns when every packet that was in the program has left it: the kernel waits for that whenever a
// map inside a map changes. v4 is the map that already stands in the generation in use.
func (k *kernel) quiesce(v4 *cebpf.Map) error {
	if v4 != nil {
		return setInner(k.objs.Blocklist4, k.gen, v4)
	}
	empty, err := cebpf.NewMap(k.list4)
	if err != nil {
		return fmt.Errorf("wait for packets: %w", err)
	}
	defer closeMap(empty)
	// An empty map says what no map says.
	return errors.Join(setInner(k.objs.Blocklist4, k.gen, empty), setInner(k.objs.Blocklist4, k.gen, nil))
}

// setInner stores inner as generation gen of outer; nil empties the place.
func setInner(outer *cebpf.Map, gen uint32, inner *cebpf.Map) error {
	if inner != nil {
		return outer.Put(gen, inner)
	}
	if err := outer.Delete(gen); err != nil && !errors.Is(err, cebpf.ErrKeyNotExist) {
		return err
	}
	return nil
}

func closeMap(m *cebpf.Map) {
	if m != nil {
		m.Close()
	}
}

// fill makes one family's list. It returns nil when the family has no rules, so that its packets skip the search.
func fill(spec *cebpf.MapSpec, image []byte) (*cebpf.Map, error) {
	if image == nil {
		return nil, nil
	}
	m, err := cebpf.NewMap(spec)
	if err != nil {
		return nil, fmt.Errorf("create a blocklist map: %w", err)
	}
	if err := m.Put(uint32(0), image); err != nil {
		m.Close()
		return nil, fmt.Errorf("fill a blocklist map: %w", err)
	}
	return m, nil
}

// settingsOf is struct settings of bpf/guard.h; the ports as on the wire.
func settingsOf(r Rules, g *guard, base uint64) []byte {
	b := []byte{byte(r.MeshPort >> 8), byte(r.MeshPort), byte(r.AccessPort >> 8), byte(r.AccessPort), 0, 0, 0, 0}
	if r.PassFragments {
		b[4] = 1
	}
	if r.GuardMesh {
		b[5] |= guardMesh
	}
	if r.GuardAccess {
		b[5] |= guardAccess
	}
	for _, x := range []uint64{tickNS(), base, g.ufrag[0], g.ufrag[1], g.source[0], g.source[1]} {
		b = binary.NativeEndian.AppendUint64(b, x)
	}
	for _, l := range g.limits {
		b = binary.NativeEndian.AppendUint64(b, l.interval)
		b = binary.NativeEndian.AppendUint64(b, l.burst)
	}
	return b
}

// count sums one slot of the counters over all processors; 0 when the kernel does not answer.
func (k *kernel) count(slot int) uint64 {
	var perCPU []uint64
	if err := k.objs.Counters.Lookup(uint32(slot), &perCPU); err != nil {
		return 0
	}
	var sum uint64
	for _, n := range perCPU {
		sum += n
	}
	return sum
}

// judge asks the kernel for a verdict on one frame at now, without attaching anything.
func (k *kernel) judge(packet []byte, rules []netip.Prefix, now uint64) (Verdict, error) {
	if err := k.objs.TestClock.Put(uint32(0), now); err != nil {
		return Verdict{}, fmt.Errorf("set the clock of the test run: %w", err)
	}
	packed, err := k.objs.TernJudge.Run(&cebpf.RunOptions{Data: packet})
	if err != nil {
		return Verdict{}, fmt.Errorf("test run of %d bytes (the kernel takes 14 to about 3,500): %w", len(packet), err)
	}
	return unpack(packed, rules)
}

// judgeXDP loads the program for one verdict.
func judgeXDP(t *Table, g *guard, packet []byte, now uint64) (Verdict, error) {
	k, err := openKernel(t, g, nil)
	if err != nil {
		return Verdict{}, err
	}
	g.feed(k)
	v, err := k.judge(packet, t.rules.Blocklist, now)
	return v, errors.Join(err, k.close())
}
