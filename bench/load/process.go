package load

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// ticksPerSecond is the unit of /proc/PID/stat: USER_HZ, which is 100 on every architecture that Go runs on.
const ticksPerSecond = 100

// usage is what a process has used so far.
type usage struct {
	cpu    time.Duration // user and system
	memory uint64        // resident bytes
}

// usageOf reads /proc; pid 0 is this process.
func usageOf(pid int) (usage, error) {
	who := "self"
	if pid > 0 {
		who = strconv.Itoa(pid)
	}
	stat, err := os.ReadFile("/proc/" + who + "/stat")
	if err != nil {
		return usage{}, fmt.Errorf("process %s cannot be measured: %w", who, err)
	}
	u, err := parseStat(stat)
	if err != nil {
		return usage{}, fmt.Errorf("process %s: %w", who, err)
	}
	return u, nil
}

// CPU is the processor time, user and system, that a process has used so far.
func CPU(pid int) (time.Duration, error) {
	u, err := usageOf(pid)
	return u.cpu, err
}

// parseStat reads the fields utime, stime and rss. The name, which may hold anything, stands in parentheses before them.
func parseStat(stat []byte) (usage, error) {
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 22 {
		return usage{}, fmt.Errorf("%d fields in stat", len(fields))
	}
	var v [3]uint64
	for i, at := range []int{11, 12, 21} { // the 14th, 15th and 24th of the whole line
		n, err := strconv.ParseUint(string(fields[at]), 10, 64)
		if err != nil {
			return usage{}, fmt.Errorf("stat: %w", err)
		}
		v[i] = n
	}
	return usage{cpu: time.Duration(v[0]+v[1]) * time.Second / ticksPerSecond, memory: v[2] * uint64(os.Getpagesize())}, nil
}
