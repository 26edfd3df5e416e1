package media

import (
	"slices"
	"sync/atomic"

	"github.com/ternmesh/tern/media/braid"
)

// outlet is one receiver of a publication: the local viewers (a supply) or a remote node (a link).
// Immutable once it is in a fanout.
type outlet struct {
	supply *supply       // local viewers, or
	link   Link          // a remote node, with
	ids    []uint16      // its id of each track and
	class  []braid.Class // the class of each track
	ref    uint32        // its name for the subscription

	pub *Publication // whose outlet it is
}

// fanout is the list of a publication's receivers. The packet path loads one pointer and takes no lock, so
// nobody who is slow in joining, leaving or reading can hold it up; changes copy the list (Hub.mu held).
type fanout struct {
	list atomic.Pointer[[]*outlet]
}

func (f *fanout) add(o *outlet)    { store(&f.list, append(slices.Clone(load(&f.list)), o)) }
func (f *fanout) remove(o *outlet) { store(&f.list, without(load(&f.list), o)) }

// load returns the list behind a copy-on-write pointer; nil when there is none yet.
func load[T any](p *atomic.Pointer[[]T]) []T {
	if l := p.Load(); l != nil {
		return *l
	}
	return nil
}

func store[T any](p *atomic.Pointer[[]T], list []T) { p.Store(&list) }

// without returns a copy of list that lacks x.
func without[T comparable](list []T, x T) []T {
	out := make([]T, 0, len(list))
	for _, e := range list {
		if e != x {
			out = append(out, e)
		}
	}
	return out
}
