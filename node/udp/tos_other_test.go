//go:build !linux

package udp

import "testing"

const ecnCE = 3

func setTOS(*testing.T, *Conn, int) {}
