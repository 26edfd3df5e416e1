package access

import (
	"github.com/pion/interceptor"
	"github.com/pion/interceptor/pkg/nack"
	"github.com/pion/rtp"
)

const (
	// repairPackets is how many sent packets of a track are kept for NACKs: two to
	// three seconds of video. Must be a power of two.
	repairPackets = 512
	// repairPayload is the longest payload that the library's cache holds together
	// with the two bytes that RTX adds.
	repairPayload = 1458
)

// repairFactory makes the library's NACK responder, bypassed by packets too long for
// its cache: it refuses to send them at all, or would cut them.
type repairFactory struct {
	*nack.ResponderInterceptorFactory
}

// NewInterceptor implements interceptor.Factory.
func (f repairFactory) NewInterceptor(id string) (interceptor.Interceptor, error) {
	i, err := f.ResponderInterceptorFactory.NewInterceptor(id)
	return repair{i}, err
}

type repair struct{ interceptor.Interceptor }

// BindLocalStream sends long packets past the cache.
func (r repair) BindLocalStream(info *interceptor.StreamInfo, wire interceptor.RTPWriter) interceptor.RTPWriter {
	kept := r.Interceptor.BindLocalStream(info, wire)
	return interceptor.RTPWriterFunc(func(h *rtp.Header, payload []byte, attrs interceptor.Attributes) (int, error) {
		if len(payload) > repairPayload {
			return wire.Write(h, payload, attrs)
		}
		return kept.Write(h, payload, attrs)
	})
}
