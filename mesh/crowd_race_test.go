//go:build race

package mesh

// crowd is how many nodes the big test has; the race detector makes each several times as dear.
const crowd = 12
