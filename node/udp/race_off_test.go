//go:build !race

package udp

// raced: see race_on_test.go.
const raced = false
