package bench

import "errors"

// ErrNoSteps says that this machine does not let a program be stepped through: another system or architecture, or no permission to trace.
var ErrNoSteps = errors.New("programs cannot be stepped through here")
