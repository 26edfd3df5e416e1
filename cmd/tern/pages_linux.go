package main

import (
	"bufio"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// releaseCode gives the kernel back the pages of the program's code: what only the start needed (the tables of other commands, fonts
// of plots), and what an operator's questions touched since. Code is never written to, so a page that is needed again comes from
// the file, or rather from the kernel's copy of it. It is done when the node is ready, and every releaseEvery while it is idle.
func releaseCode() {
	exe, err := os.Executable()
	if err != nil {
		return
	}
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return // without /proc nothing is lost but the gain
	}
	defer f.Close()
	unwritten(f, exe, func(begin, end uintptr) {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, begin, end-begin, unix.MADV_DONTNEED)
	})
}

// unwritten reads /proc/PID/smaps and calls release for the parts of the program file that cannot be written to and have not been:
// what was relocated when the program started (its Anonymous pages are not 0) would come back from the file as it was before.
func unwritten(smaps io.Reader, exe string, release func(begin, end uintptr)) {
	var begin, end uintptr
	for lines := bufio.NewScanner(smaps); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) > 0 && !strings.HasSuffix(fields[0], ":") { // the head of another part
			begin, end = codeOf(fields, exe)
		}
		if begin < end && len(fields) == 3 && fields[0] == "Anonymous:" && fields[1] == "0" {
			release(begin, end)
		}
	}
}

// codeOf is where a part is that is code or constants of the program file; 0, 0 if it is something else.
func codeOf(fields []string, exe string) (begin, end uintptr) {
	if len(fields) != 6 || fields[5] != exe || fields[1] != "r-xp" && fields[1] != "r--p" {
		return 0, 0
	}
	from, to, _ := strings.Cut(fields[0], "-")
	b, err1 := strconv.ParseUint(from, 16, 64)
	e, err2 := strconv.ParseUint(to, 16, 64)
	if err1 != nil || err2 != nil {
		return 0, 0
	}
	return uintptr(b), uintptr(e)
}
