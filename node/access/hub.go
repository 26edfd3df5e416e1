package access

import (
	"context"

	"github.com/ternmesh/tern/media"
)

// hub is what access asks of media. The four methods are media.Hub's, with results
// that a test can stand in for.
type hub interface {
	mayPublish(key media.Key, tracks []media.Track) error
	publish(key media.Key, tracks []media.Track, keyframe func(track int)) (publication, error)
	subscribe(ctx context.Context, key media.Key, sink media.Sink) (subscription, error)
	list(ctx context.Context, app, channel string) ([]media.StreamInfo, error)
}

type publication interface {
	Write(track int, packet []byte)
	Close()
	Done() <-chan struct{}
	Reason() string
}

type subscription interface {
	Key() media.Key
	Tracks() []media.Track
	RequestKeyframe(track int)
	Close()
}

// mediaHub makes a media.Hub a hub.
type mediaHub struct{ *media.Hub }

func (h mediaHub) publish(key media.Key, tracks []media.Track, keyframe func(track int)) (publication, error) {
	p, err := h.Publish(key, tracks, keyframe)
	if err != nil {
		return nil, err // not p: a nil pointer in an interface is not nil
	}
	return p, nil
}

func (h mediaHub) mayPublish(key media.Key, tracks []media.Track) error {
	return h.MayPublish(key, tracks)
}

func (h mediaHub) subscribe(ctx context.Context, key media.Key, sink media.Sink) (subscription, error) {
	s, err := h.Subscribe(ctx, key, sink)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (h mediaHub) list(ctx context.Context, app, channel string) ([]media.StreamInfo, error) {
	return h.List(ctx, app, channel)
}
