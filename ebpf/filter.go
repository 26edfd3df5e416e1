package ebpf

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// What a Config may ask for.
const (
	ModeAuto = "auto" // XDP where it attaches, else the Go twin; the default
	ModeXDP  = "xdp"  // XDP on every interface, or Run fails
	ModeGo   = "go"   // the Go twin alone
)

// What Filter.Mode may answer, beside ModeGo.
const (
	ModeDriver  = "xdp-driver"  // in the driver of every interface
	ModeGeneric = "xdp-generic" // in the kernel, but on some interface only behind its driver
)

// AutoInterfaces in Config.Interfaces stands for the interfaces that carry a default route when Run starts.
const AutoInterfaces = "auto"

// recheckEvery is how often Run looks whether its interfaces still carry the program.
const recheckEvery = 2 * time.Second

// alarmQuiet is how long tables must not overflow before the next overflow is worth another line.
const alarmQuiet = time.Minute

// ErrUnsupported is wrapped by errors of systems and kernels that cannot run the XDP program.
var ErrUnsupported = errors.New("XDP is not available")

// Config is what a Filter needs. Zero values are documented.
type Config struct {
	// Interfaces to attach to, by name ("lo" is allowed and runs in generic mode), or AutoInterfaces. None: the Go
	// twin. Packets that arrive elsewhere are not filtered by the kernel: name every interface that carries our ports.
	Interfaces []string
	Mode       string // ModeAuto (also ""), ModeXDP or ModeGo
	MeshPort   uint16 // UDP; 0 = none
	AccessPort uint16 // UDP; 0 = none
	Logger     *slog.Logger

	// GuardMesh and GuardAccess switch the live rules on: the owner then tells the Filter who the members are
	// (SetMembers, Peer), and which clients are admitted (Admit, Forget). Without them only form and blocklist count.
	GuardMesh, GuardAccess bool
	Limits                 *Limits // of the live rules; nil: DefaultLimits

	// Relay is this node's id in path frames, for relaying in the kernel (SendOnward); 0: user space relays all. RelayRate
	// bounds what one source may have relayed there, in bytes a second; 0: nothing does. RelayTime is the time that the node
	// holds frames against, in Unix milliseconds; nil: the system's.
	Relay     uint32
	RelayRate float64
	RelayTime func() uint64

	// OnQuarantine is told of each source that this node puts into quarantine; nil: nobody is. It must not block.
	OnQuarantine func(Quarantined)
}

// Attachment is what became of one interface.
type Attachment struct {
	Interface string
	Mode      string // ModeDriver, ModeGeneric, or "" = not attached
	Why       string // why not in driver mode; empty in driver mode
}

// Filter holds one rule set and runs it: in the kernel while Run has it attached, and as the Go twin always. All methods
// are safe for concurrent use.
type Filter struct {
	cfg   Config // mu guards the ports
	table atomic.Pointer[Table]
	tally tally // the twin's verdicts
	twin  atomic.Bool
	guard *guard    // the live rules
	drops drops     // sampled, of the twin and the kernel
	born  time.Time // see clock

	updates, failures, lost atomic.Uint64

	mu       sync.Mutex // guards everything below, and orders Update against attaching and detaching
	kernel   *kernel    // nil unless Run has the program loaded
	attached []Attachment
	past     [counterSlots]uint64 // what kernels of earlier Runs counted
	why      string               // why the mode is ModeGo
	full     uint64               // LiveStats.full at the last recheck
	alarmed  uint64               // when that last grew, by clock
	relays   relays               // what the kernel was told to send on
}

// New checks cfg and returns a Filter that judges by the twin, with no rules but the ports.
func New(cfg Config) (*Filter, error) {
	if cfg.Logger == nil {
		return nil, errors.New("the packet filter needs a logger")
	}
	if cfg.Mode == "" {
		cfg.Mode = ModeAuto
	}
	if !slices.Contains([]string{ModeAuto, ModeXDP, ModeGo}, cfg.Mode) {
		return nil, fmt.Errorf("the packet filter's mode is %q, not auto, xdp or go", cfg.Mode)
	}
	if cfg.Mode == ModeXDP && len(cfg.Interfaces) == 0 {
		return nil, errors.New("the packet filter's mode is xdp, but no interface is named")
	}
	if cfg.RelayTime == nil {
		cfg.RelayTime = func() uint64 { return uint64(time.Now().UnixMilli()) }
	}
	limits := DefaultLimits()
	if cfg.Limits != nil {
		limits = *cfg.Limits
	}
	table, err := Compile(cfg.complete(Rules{}))
	if err != nil {
		return nil, fmt.Errorf("packet filter: %w", err)
	}
	f := &Filter{cfg: cfg, why: "not started", guard: newGuard(limits), born: time.Now()}
	f.table.Store(table)
	f.twin.Store(true)
	return f, nil
}

// complete fills in what the Config says and the rules leave out.
func (cfg Config) complete(r Rules) Rules {
	if r.MeshPort == 0 {
		r.MeshPort = cfg.MeshPort
	}
	if r.AccessPort == 0 {
		r.AccessPort = cfg.AccessPort
	}
	r.GuardMesh = r.GuardMesh || cfg.GuardMesh
	r.GuardAccess = r.GuardAccess || cfg.GuardAccess
	return r
}

// clock is the time of the live rules, in nanoseconds; it begins above 0, which means "never".
func (f *Filter) clock() uint64 { return uint64(time.Since(f.born)) + 1 }

// Update puts rules in force, in the kernel first and then in the twin, each atomically: every packet is judged by all
// of the old rules or all of the new ones. Ports that are 0 keep those of the Config. On an error the
// old rules stay in force everywhere. It may take a second for 100,000 entries, and does not slow packets down.
func (f *Filter) Update(r Rules) error {
	f.mu.Lock()
	cfg := f.cfg
	f.mu.Unlock()
	table, err := Compile(cfg.complete(r))
	if err != nil {
		f.failures.Add(1)
		return fmt.Errorf("filter rules: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.guard.setRates(table.rules.Rates)
	if f.kernel != nil {
		if err := f.kernel.replace(table); err != nil {
			f.guard.setLimits(before)
			f.failures.Add(1)
			return fmt.Errorf("put the filter rules into the kernel: %w", err)
		}
	}
	f.table.Store(table)
	f.updates.Add(1)
	return nil
}

// SetPorts says which ports are ours, for an owner whom the system gives them after New; 0 = none.
func (f *Filter) SetPorts(mesh, access uint16) error {
	f.mu.Lock()
	same := f.cfg.MeshPort == mesh && f.cfg.AccessPort == access
	f.cfg.MeshPort, f.cfg.AccessPort = mesh, access
	f.mu.Unlock()
	if same {
		return nil
	}
	r := f.table.Load().rules
	r.MeshPort, r.AccessPort = mesh, access
	return f.Update(r)
}

// Overflowed says whether something did not fit the live rules' tables within the time given.
func (f *Filter) Overflowed(within time.Duration) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.alarmed > 0 && f.clock()-f.alarmed < uint64(within)
}

// Run attaches the program to the interfaces, keeps it there and detaches it when ctx ends. It says once, in one line,
// what filters and why. Links are owned by this process: if it dies, the kernel detaches. Run returns
// nil when ctx ends, and an error only in ModeXDP, when an interface cannot be filtered. Run it once at a time.
func (f *Filter) Run(ctx context.Context) error {
	defer f.stop()
	if err := f.start(); err != nil {
		return err
	}
	f.announce()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return f.watch(ctx) })
	tick := time.NewTicker(recheckEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return g.Wait()
		case <-tick.C:
			f.recheck()
		}
	}
}

// watch reads the kernel's samples of drops until ctx ends. The program stays loaded until Run has waited for it.
func (f *Filter) watch(ctx context.Context) error {
	f.mu.Lock()
	k := f.kernel
	f.mu.Unlock()
	if k == nil {
		return nil
	}
	err := k.readSamples(ctx, func(packed uint32, head []byte) {
		v, err := unpack(packed, f.table.Load().rules.Blocklist)
		if err != nil {
			v.Rule = netip.Prefix{} // of rules that have just been replaced
		}
		f.sample(frameSource(head).Unmap(), v, "xdp")
	}, func() { f.drops.missed(1) })
	if err != nil {
		f.cfg.Logger.Warn("packet filter: drops are counted but not sampled", "err", err)
	}
	return nil
}

// start loads the rules in force before it attaches, so that no packet meets an empty program.
func (f *Filter) start() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cfg.Mode == ModeGo {
		f.why = "the configuration asks for it"
		return nil
	}
	names, err := expand(f.cfg.Interfaces)
	if err == nil && len(names) == 0 {
		err = errors.New("no interface is named")
	}
	if err == nil {
		f.kernel, err = openKernel(f.table.Load(), f.guard, f.clock)
	}
	if err == nil {
		f.guard.feed(f.kernel)
		f.tellTime()
		f.attached = f.kernel.attach(names)
		err = f.missing()
	}
	f.settle()
	switch {
	case err == nil:
		return nil
	case f.cfg.Mode == ModeXDP:
		return fmt.Errorf("attach the packet filter: %w", err)
	}
	f.why = err.Error()
	return nil
}

// missing says which interfaces the kernel does not filter. The caller holds mu.
func (f *Filter) missing() error {
	var errs []error
	for _, a := range f.attached {
		if a.Mode == "" {
			errs = append(errs, fmt.Errorf("%s: %s", a.Interface, a.Why))
		}
	}
	return errors.Join(errs...)
}

// settle puts the twin into the packet path, or out of it. The caller holds mu.
func (f *Filter) settle() {
	f.twin.Store(f.kernel == nil || len(f.attached) == 0 || f.missing() != nil)
}

func (f *Filter) announce() {
	st := f.Status()
	args := []any{"mode", st.Mode, "twin_in_path", st.TwinActive, "interfaces", st.summary()}
	if f.cfg.Relay != 0 {
		args = append(args, "relays_in_kernel", st.Mode != ModeGo)
	}
	if st.Mode == ModeGo {
		args = append(args, "why", strings.ReplaceAll(st.Why, "\n", "; "))
	}
	if st.Mode == ModeGo && f.cfg.Mode != ModeGo {
		f.cfg.Logger.Warn("packet filter: the kernel does not filter, the Go twin does", args...)
		return
	}
	f.cfg.Logger.Info("packet filter", args...)
}

// recheck attaches again where an interface has gone or come back, and says so when that changes anything.
func (f *Filter) recheck() {
	f.guard.sweep(f.clock())
	f.alarm()
	f.mu.Lock()
	if f.kernel == nil {
		f.mu.Unlock()
		return
	}
	f.tellTime()
	before := f.missing()
	next, lost := f.kernel.reattach(f.attached)
	f.attached = next
	f.lost.Add(uint64(lost))
	now := f.missing()
	if now != nil {
		f.why = now.Error()
	}
	f.settle()
	f.mu.Unlock()
	if lost > 0 || (before == nil) != (now == nil) {
		f.announce()
	}
}

// alarm says once, until it has been quiet for alarmQuiet, that a table of the live rules is full.
func (f *Filter) alarm() {
	live, now := f.LiveStats(), f.clock()
	full := live.full()
	f.mu.Lock()
	news := full > f.full
	loud := news && (f.alarmed == 0 || now-f.alarmed > uint64(alarmQuiet))
	if f.full = full; news {
		f.alarmed = now
	}
	f.mu.Unlock()
	if loud {
		f.cfg.Logger.Error("packet filter: a table is full; known senders may be dropped", "event", "table_full", "peers", live.Peers,
			"peers_refused", live.PeersRefused, "clients", live.Flows, "clients_evicted", live.FlowsEvicted,
			"quarantined", live.Walls, "quarantine_evicted", live.WallsEvicted, "kernel_errors", live.KernelErrors)
	}
}

// stop detaches, keeps the counts, and leaves the twin in charge.
func (f *Filter) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.twin.Store(true)
	if f.kernel == nil {
		return
	}
	f.guard.feed(nil)
	f.relayed()
	f.relays = relays{total: f.relays.total}
	f.drops.missed(f.kernel.samplesLost())
	for i := range f.past {
		f.past[i] += f.kernel.count(i)
	}
	if err := f.kernel.close(); err != nil {
		f.cfg.Logger.Error("packet filter: detach", "err", err)
	}
	f.kernel, f.attached, f.why = nil, nil, "stopped"
}

// TwinActive says whether a reader of packets has to ask Allow or AllowPacket: true unless the kernel filters every
// interface of the Config. One atomic load.
func (f *Filter) TwinActive() bool { return f.twin.Load() }

// AllowPacket judges one datagram by the twin and counts the verdict; see Table.AllowPacket.
func (f *Filter) AllowPacket(src netip.AddrPort, dstPort uint16, payload []byte) Verdict {
	v := f.table.Load().allowPacket(src, dstPort, payload, f.guard, f.clock())
	f.count(v, src.Addr())
	return v
}

// Allow judges a source alone, for protocols that have no rule but the blocklist (HTTPS, plain RTP); it counts
// drops only.
func (f *Filter) Allow(src netip.Addr) Verdict {
	rule, blocked := f.table.Load().Blocked(src.Unmap())
	if !blocked {
		return judged(ClassNone, ReasonOK)
	}
	v := Verdict{Action: Drop, Class: ClassNone, Reason: ReasonBlocklist, Rule: rule}
	f.count(v, src)
	return v
}

// count counts a verdict of the twin, and samples some of the drops.
func (f *Filter) count(v Verdict, src netip.Addr) {
	if n := f.tally.add(v); v.Action == Drop && n%sampleEvery == 1 && f.drops.room(f.clock()) {
		f.sample(src.Unmap(), v, "go")
	}
}

// Table returns the rules in force.
func (f *Filter) Table() *Table { return f.table.Load() }

// Mode returns what filters now: ModeDriver or ModeGeneric when the kernel filters every interface of the Config
// (ModeGeneric when at least one runs so), else ModeGo.
func (f *Filter) Mode() string { return f.Status().Mode }

// Status is what filters now, and where.
type Status struct {
	Mode       string // see Filter.Mode
	Why        string // why Mode is ModeGo
	TwinActive bool
	Interfaces []Attachment
}

// Status returns a snapshot.
func (f *Filter) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	st := Status{Mode: f.mode(), TwinActive: f.twin.Load(), Interfaces: slices.Clone(f.attached)}
	if st.Mode == ModeGo {
		st.Why = f.why
	}
	return st
}

// mode works out Filter.Mode. The caller holds mu.
func (f *Filter) mode() string {
	switch {
	case f.twin.Load():
		return ModeGo
	case slices.ContainsFunc(f.attached, func(a Attachment) bool { return a.Mode == ModeGeneric }):
		return ModeGeneric
	}
	return ModeDriver
}

// summary is the interfaces in one log value.
func (s Status) summary() string {
	var parts []string
	for _, a := range s.Interfaces {
		switch a.Mode {
		case ModeDriver:
			parts = append(parts, a.Interface+" driver")
		case ModeGeneric:
			parts = append(parts, a.Interface+" generic ("+a.Why+")")
		default:
			parts = append(parts, a.Interface+" none ("+a.Why+")")
		}
	}
	return strings.Join(parts, ", ")
}

// Stats returns a snapshot of the counters.
func (f *Filter) Stats() Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := Stats{
		Go:      counts(func(i int) uint64 { return f.tally[i].Load() }),
		Rules:   len(f.table.Load().rules.Blocklist),
		Updates: f.updates.Load(), UpdateFailures: f.failures.Load(), Lost: f.lost.Load(),
		Mode: f.mode(),
	}
	s.XDP = counts(func(i int) uint64 {
		if f.kernel == nil {
			return f.past[i]
		}
		return f.past[i] + f.kernel.count(i)
	})
	return s
}
