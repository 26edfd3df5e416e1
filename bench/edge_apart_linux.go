package bench

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// apart keeps this process, with its clients, off the first processor until restore, and returns how to start a server that
// has it for itself, the way the peers' figures were taken, or that has all. With one processor it does nothing.
func apart() (alone, anywhere func(*exec.Cmd) error, restore func(), err error) {
	var all, server, clients unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return nil, nil, nil, fmt.Errorf("read the processors of this process: %w", err)
	}
	for cpu := 0; cpu < 1024 && clients.Count()+server.Count() < all.Count(); cpu++ {
		switch {
		case !all.IsSet(cpu):
		case server.Count() == 0:
			server.Set(cpu)
		default:
			clients.Set(cpu)
		}
	}
	if clients.Count() == 0 {
		return (*exec.Cmd).Start, (*exec.Cmd).Start, func() {}, nil
	}
	if err := moveThreads(&clients); err != nil {
		return nil, nil, nil, err
	}
	on := func(processors *unix.CPUSet) func(*exec.Cmd) error {
		return func(c *exec.Cmd) error {
			runtime.LockOSThread() // the child has the processors of the thread that starts it
			defer runtime.UnlockOSThread()
			if err := unix.SchedSetaffinity(0, processors); err != nil {
				return fmt.Errorf("give the server its processors: %w", err)
			}
			defer func() { _ = unix.SchedSetaffinity(0, &clients) }() // was granted before
			return c.Start()
		}
	}
	return on(&server), on(&all), func() { _ = moveThreads(&all) }, nil
}

// moveThreads gives all threads of this process these processors; those that they start inherit them.
func moveThreads(to *unix.CPUSet) error {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range tasks {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			return err
		}
		if err := unix.SchedSetaffinity(id, to); err != nil && err != unix.ESRCH { // a thread that ended needs none
			return fmt.Errorf("keep a thread off the server's processor: %w", err)
		}
	}
	return nil
}
