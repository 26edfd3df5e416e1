package media

// NodeID is a node's compact id on the wire.
type NodeID uint32

// FenceID names the set of regions that an app's media may touch.
type FenceID uint32

// Class is a packet's priority class on a session.
type Class uint8

// Classes.
const (
	ClassAudio Class = iota
	ClassVideo
)

// DropReason says why a packet was not sent; 0 = it was.
type DropReason uint8
