package main

import "testing"

func TestOnlyTheProgramsOwnUnwrittenPagesAreReleased(t *testing.T) {
	for line, want := range map[string]bool{
		"00400000-013d5000 r-xp 00000000 fe:00 10421776   /usr/bin/tern": true,
		"013d5000-024be000 r--p 00fd5000 fe:00 10421776   /usr/bin/tern": true,
		"024be000-02aa2000 rw-p 020be000 fe:00 10421776   /usr/bin/tern": false,
		"013d5000-024be000 r--p 00fd5000 fe:00 10421776   /usr/bin/else": false,
		"555555554000-555555600000 r--p 0 fe:00 1 /usr/bin/tern":         false, // relocated: may have been written
		"555555600000-555556000000 r-xp 0 fe:00 1 /usr/bin/tern":         true,
		"7ffc0000-7ffd0000 rw-p 00000000 00:00 0          [stack]":       false,
		"nonsense": false,
	} {
		if _, _, ok := codeOf(line, "/usr/bin/tern"); ok != want {
			t.Errorf("%s: %v, want %v", line, ok, want)
		}
	}
	releaseStart() // the test goes on to run
}
