//go:build race

package udp

// raced: the race detector is on, under which pools forget at random.
const raced = true
