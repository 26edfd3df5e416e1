package bench

import (
	"context"
	"debug/elf"
	"debug/gosym"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

const (
	// stepsAtMost bounds one count; a step takes some microseconds, 25 to 70 on a busy machine.
	stepsAtMost = 5_000_000
	// stepsWithin bounds the time for it: a thread that waits for one that is held would wait for ever.
	stepsWithin = 5 * time.Minute
	// loopEntry is called when a benchmark's loop begins and when it ends, and not between.
	loopEntry = "testing.(*B).loopSlowPath"
	// waitAll has wait4 wait for threads too (__WALL), and for those alone that this thread traces (__WNOTHREAD).
	waitAll = 0x40000000 | 0x20000000
	// exitKill ends what is traced with who traces it (PTRACE_O_EXITKILL).
	exitKill = 0x100000
	// breakpoint is INT3.
	breakpoint = 0xcc
)

// stepsDebug takes from the runtime what makes a count depend on the instant (preemption) or on the model of the processor. AES, which
// every server has, stays.
const stepsDebug = "GODEBUG=asyncpreemptoff=1,cpu.adx=off,cpu.avx=off,cpu.avx2=off,cpu.avx512=off,cpu.bmi1=off,cpu.bmi2=off,cpu.erms=off,cpu.fma=off,cpu.fsrm=off,cpu.sha=off,cpu.vpclmulqdq=off"

// Instructions counts what one round of a Go benchmark executes outside the kernel, in the mean of so many, by stepping through
// them. The benchmark must be of the form for b.Loop() and do its work in its own goroutine: all other threads are held. Binary is made by
// go test -c, dir is its package's folder. The error wraps ErrNoSteps where tracing is not permitted.
func Instructions(ctx context.Context, binary, dir, benchmark string, rounds int) (float64, error) {
	entry, err := address(binary, loopEntry)
	if err != nil {
		return 0, err
	}
	if binary, err = filepath.Abs(binary); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, stepsWithin)
	defer cancel()
	var steps int
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // whom the kernel knows as the tracer; it ends with the goroutine
		t := &tracee{entry: uintptr(entry)}
		if err = t.start(ctx, binary, dir, benchmark, rounds); err == nil {
			steps, err = t.count()
			t.end()
		}
	}()
	<-done
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("it was ended (%w): a round that waits for another goroutine's thread, which is held, cannot be counted", ctx.Err())
	}
	if err != nil {
		return 0, fmt.Errorf("count the instructions of %s: %w", benchmark, err)
	}
	return float64(steps) / float64(rounds), nil
}

// address finds a function in a program that is not moved when it is loaded, as Go's are by default. The table is the runtime's own, which
// go test leaves in.
func address(program, function string) (uint64, error) {
	f, err := elf.Open(program)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	table, text := f.Section(".gopclntab"), f.Section(".text")
	if table == nil || text == nil || f.Type != elf.ET_EXEC {
		return 0, fmt.Errorf("%s is not what go test -c makes", program)
	}
	lines, err := table.Data()
	if err != nil {
		return 0, err
	}
	functions, err := gosym.NewTable(nil, gosym.NewLineTable(lines, text.Addr))
	if err != nil {
		return 0, err
	}
	if fn := functions.LookupFunc(function); fn != nil {
		return fn.Entry, nil
	}
	return 0, fmt.Errorf("%s has no %s: its benchmarks are not of the form for b.Loop()", program, function)
}

// tracee is a process under way. One thread owns it.
type tracee struct {
	entry   uintptr
	cmd     *exec.Cmd
	pid     int
	threads map[int]bool
	held    bool // all threads but one stay where they are
	release func() bool
}

// start runs the benchmark up to its first instruction.
func (t *tracee) start(ctx context.Context, binary, dir, benchmark string, rounds int) error {
	t.cmd = exec.Command(binary, "-test.run", "^$", "-test.bench", "^"+strings.ReplaceAll(benchmark, "/", "$/^")+"$", "-test.benchtime", fmt.Sprintf("%dx", rounds))
	t.cmd.Dir, t.cmd.SysProcAttr = dir, &syscall.SysProcAttr{Ptrace: true}
	t.cmd.Env = append(os.Environ(), stepsDebug, "GOGC=off", "GOMAXPROCS=1")
	if err := t.cmd.Start(); err != nil {
		return unlessMay(err)
	}
	t.pid, t.threads = t.cmd.Process.Pid, map[int]bool{t.cmd.Process.Pid: true}
	t.release = context.AfterFunc(ctx, func() { _ = syscall.Kill(t.pid, syscall.SIGKILL) })
	_, _, err := t.next()
	if err == nil {
		err = unlessMay(syscall.PtraceSetOptions(t.pid, syscall.PTRACE_O_TRACECLONE|exitKill))
	}
	if err != nil {
		t.end()
	}
	return err
}

// unlessMay tells what the kernel does not permit, or does not have, from what is wrong with the call.
func unlessMay(err error) error {
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSYS) {
		return fmt.Errorf("%w: %w", ErrNoSteps, err)
	}
	return err
}

// end kills the process and takes its remains away.
func (t *tracee) end() {
	t.release()
	if t.threads[t.pid] { // else it is gone, and its number may be another's
		_ = syscall.Kill(t.pid, syscall.SIGKILL)
	}
	for err := error(nil); err == nil; {
		_, _, err = t.next()
	}
	_ = t.cmd.Process.Release()
}

// next waits until any thread stops, and returns which. All are waited for at once: one that was killed is gone only when the remains
// of all the others have been taken away.
func (t *tracee) next() (tid int, status syscall.WaitStatus, err error) {
	for len(t.threads) > 0 {
		tid, err = syscall.Wait4(-1, &status, waitAll, nil)
		if err != nil || status.Stopped() {
			return tid, status, err
		}
		delete(t.threads, tid)
	}
	return 0, 0, errors.New("the benchmark ended before its loop did: is there one of that name?")
}

// count lets the benchmark run to where its loop has begun, holds all other threads, and steps to the loop's end.
func (t *tracee) count() (int, error) {
	worker, err := t.runTo(t.pid, t.entry)
	if err != nil {
		return 0, err
	}
	var regs syscall.PtraceRegs
	if err := syscall.PtraceGetRegs(worker, &regs); err != nil {
		return 0, err
	}
	var back [8]byte
	if _, err := syscall.PtracePeekData(worker, uintptr(regs.Rsp), back[:]); err != nil {
		return 0, err
	}
	// Held before the loop begins and not after: had the runtime's monitor asked the goroutine to make room, it does so on this way, and
	// what others have to do is not counted.
	if err := t.hold(worker); err != nil {
		return 0, err
	}
	if _, err = t.runTo(worker, uintptr(binary.LittleEndian.Uint64(back[:]))); err != nil {
		return 0, err
	}
	for n := 1; n <= stepsAtMost; n++ {
		if err := syscall.PtraceSingleStep(worker); err != nil {
			return 0, err
		}
		for tid := 0; tid != worker; { // a thread that has just been made stops too, and stays so
			if tid, _, err = t.next(); err != nil {
				return 0, err
			}
		}
		if err := syscall.PtraceGetRegs(worker, &regs); err != nil {
			return 0, err
		}
		if uintptr(regs.Rip) == t.entry {
			return n, nil
		}
	}
	return 0, fmt.Errorf("more than %d: take fewer rounds", stepsAtMost)
}

// runTo continues a thread, and those that it makes unless threads are held, until one comes to an address, and returns which.
func (t *tracee) runTo(tid int, at uintptr) (int, error) {
	worker, saved := tid, make([]byte, 1)
	if _, err := syscall.PtracePeekText(tid, at, saved); err != nil {
		return 0, err
	}
	if _, err := syscall.PtracePokeText(tid, at, []byte{breakpoint}); err != nil {
		return 0, err
	}
	err := syscall.PtraceCont(tid, 0)
	for err == nil {
		var status syscall.WaitStatus
		if tid, status, err = t.next(); err != nil {
			break
		}
		signal := 0
		switch s := status.StopSignal(); {
		case s == syscall.SIGTRAP && status.TrapCause() == 0:
			var regs syscall.PtraceRegs
			if err = syscall.PtraceGetRegs(tid, &regs); err == nil && uintptr(regs.Rip) == at+1 {
				regs.Rip--
				_, poke := syscall.PtracePokeText(tid, at, saved)
				return tid, errors.Join(poke, syscall.PtraceSetRegs(tid, &regs))
			}
		case s != syscall.SIGTRAP && (s != syscall.SIGSTOP || t.threads[tid]):
			signal = int(s)
		}
		t.threads[tid] = true // a new thread stops once, as it begins
		if err == nil && (tid == worker || !t.held) {
			err = syscall.PtraceCont(tid, signal)
		}
	}
	return 0, err
}

// hold stops every thread but one: nothing is preempted, collected or woken while its instructions are counted.
func (t *tracee) hold(worker int) error {
	t.held = true
	running := maps.Clone(t.threads)
	delete(running, worker)
	for tid := range running {
		if _, _, errno := syscall.RawSyscall(syscall.SYS_TGKILL, uintptr(t.pid), uintptr(tid), uintptr(syscall.SIGSTOP)); errno != 0 {
			return errno
		}
	}
	for len(running) > 0 {
		tid, _, err := t.next()
		if err != nil {
			return err
		}
		delete(running, tid) // whatever it has stopped for
	}
	return nil
}
