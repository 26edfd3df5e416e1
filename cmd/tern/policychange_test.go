package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/ternmesh/tern/control"
)

// endless is a file without an end, such as a device.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// What is no policy is refused after as much as a policy may have, not when the machine's memory is full.
func TestPolicyInputIsBounded(t *testing.T) {
	cmd := &cobra.Command{}
	cmd.SetIn(endless{})
	for _, file := range []string{"-", "/dev/zero"} {
		if doc, err := readInput(cmd, file); err == nil || !strings.Contains(err.Error(), "is no policy") {
			t.Errorf("%s: %d bytes (%v)", file, len(doc), err)
		}
	}
	cmd.SetIn(strings.NewReader(strings.Repeat(" ", control.MaxDocumentBytes)))
	if doc, err := readInput(cmd, "-"); err != nil || len(doc) != control.MaxDocumentBytes {
		t.Errorf("the longest that is allowed: %d bytes (%v)", len(doc), err)
	}
}
