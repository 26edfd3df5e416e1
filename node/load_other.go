//go:build !linux

package node

import (
	"errors"
	"time"
)

// processorTime is not asked for here.
func processorTime() (time.Duration, error) { return 0, errors.ErrUnsupported }
