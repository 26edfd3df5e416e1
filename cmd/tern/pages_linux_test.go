package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
)

func TestOnlyTheProgramsOwnUnwrittenPagesAreReleased(t *testing.T) {
	part := func(head string, anonymous int) string {
		return fmt.Sprintf("%s\nSize: 16 kB\nAnonymous: %d kB\nAnonHugePages: 0 kB\nVmFlags: rd mr mw me\n", head, anonymous)
	}
	smaps := part("00400000-013d5000 r-xp 00000000 fe:00 10421776   /usr/bin/tern", 0) +
		part("013d5000-024be000 r--p 00fd5000 fe:00 10421776   /usr/bin/tern", 0) +
		part("024be000-024bf000 r--p 020be000 fe:00 10421776   /usr/bin/tern", 4) + // relocated: written to, and then locked
		part("024bf000-02aa2000 rw-p 020bf000 fe:00 10421776   /usr/bin/tern", 0) +
		part("02aa2000-02aa3000 r--p 00fd5000 fe:00 10421776   /usr/bin/else", 0) +
		part("7ffc0000-7ffd0000 rw-p 00000000 00:00 0          [stack]", 0) +
		part("7ffd0000-7ffe0000 r--p 00000000 00:00 0", 0) + part("nonsense", 0)
	var got []string
	unwritten(strings.NewReader(smaps), "/usr/bin/tern", func(begin, end uintptr) { got = append(got, fmt.Sprintf("%08x-%08x", begin, end)) })
	if want := "00400000-013d5000 013d5000-024be000"; strings.Join(got, " ") != want {
		t.Errorf("released %v, want %s", got, want)
	}
	own, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		missing(t, err.Error())
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	unwritten(bytes.NewReader(own), exe, func(uintptr, uintptr) { found++ })
	if found == 0 {
		t.Errorf("nothing is released of this program:\n%.600s", own)
	}
	releaseCode() // the test goes on to run
}
