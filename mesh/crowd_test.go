//go:build !race

package mesh

// crowd is how many nodes the big test has.
const crowd = 30
