package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAnInvitationIsItsOwnersAloneAlsoInAnOldFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "invitation")
	if err := os.WriteFile(file, []byte("an older one that was longer\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := writeSecret(file, "secret\n"); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "secret\n" || info.Mode().Perm() != 0o600 {
		t.Errorf("%q, mode %v, %v", b, info.Mode(), err)
	}
}
