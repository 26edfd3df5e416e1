package main

import (
	"bufio"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// releaseStart gives the kernel back the pages of the program's code that only the start needed (the tables of other commands,
// fonts of plots): about 8 MB of a node's resident memory. Code is never written to, so a page that is needed again comes
// from the file. It is done once, when the node is ready.
func releaseStart() {
	exe, err := os.Executable()
	if err != nil {
		return
	}
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return // without /proc nothing is lost but the gain
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		begin, end, ok := codeOf(lines.Text(), exe)
		if ok {
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, begin, end-begin, unix.MADV_DONTNEED)
		}
	}
}

// codeOf reads one line of /proc/self/maps: ok if it is code or constants of the program file. In a program that is
// relocated when it starts (addresses above 4 GiB), constants have been written to, and only code counts.
func codeOf(line, exe string) (begin, end uintptr, ok bool) {
	fields := strings.Fields(line)
	if len(fields) != 6 || fields[5] != exe {
		return 0, 0, false
	}
	from, to, found := strings.Cut(fields[0], "-")
	b, err1 := strconv.ParseUint(from, 16, 64)
	e, err2 := strconv.ParseUint(to, 16, 64)
	fixed := e < 1<<32
	return uintptr(b), uintptr(e), found && err1 == nil && err2 == nil && b < e && (fields[1] == "r-xp" || fixed && fields[1] == "r--p")
}
