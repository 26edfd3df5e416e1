//go:build !linux || !amd64

package bench

import "context"

// Instructions is for Linux on amd64; elsewhere it is ErrNoSteps.
func Instructions(context.Context, string, string, string, int) (float64, error) {
	return 0, ErrNoSteps
}
