//go:build race

package demo

// raced says that the race detector is on: six nodes then need more processor than two cores have, and late packets are lost.
const raced = true
