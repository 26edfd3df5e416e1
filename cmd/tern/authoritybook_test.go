package main

import (
	"os"
	"path/filepath"
	"testing"
)

// read is what a file holds, "" if there is none.
func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(b)
}

func TestAnInvitationIsItsOwnersAloneAlsoInAnOldFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "invitation")
	if err := os.WriteFile(file, []byte("an older one that was longer\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := openSecret(file)
	if err != nil {
		t.Fatal(err)
	}
	if s.drop(); read(t, file) != "an older one that was longer\n" {
		t.Errorf("what was there is gone though nothing took its place: %q", read(t, file))
	}
	if s, err = openSecret(file); err == nil {
		err = s.keep("secret\n")
	}
	if err != nil {
		t.Fatal(err)
	}
	other := file + "2"
	if s, err = openSecret(other); err != nil {
		t.Fatal(err)
	}
	if s.drop(); read(t, other) != "" {
		t.Error("a file for a secret that was not made is left")
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "secret\n" || info.Mode().Perm() != 0o600 {
		t.Errorf("%q, mode %v, %v", b, info.Mode(), err)
	}
}
