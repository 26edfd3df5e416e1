package access

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/ternmesh/tern/media"
)

// listChannel answers with the live streams of a channel, longest live first. The
// token must let its holder join.
func (a *Access) listChannel(w http.ResponseWriter, r *http.Request) *problem {
	j, p := a.enter(r)
	if p != nil {
		return p
	}
	if p := a.reserve(); p != nil { // a question costs what a join does
		return p
	}
	defer a.leave()
	ctx, cancel := context.WithTimeout(r.Context(), hubFor)
	defer cancel()
	streams, err := a.hub.list(ctx, j.app, j.channel)
	if err != nil {
		return hubProblem(err)
	}
	if streams == nil {
		streams = []media.StreamInfo{} // [] rather than null
	}
	w.Header().Set("Content-Type", typeJSON)
	_ = json.NewEncoder(w).Encode(struct {
		App     string             `json:"app"`
		Channel string             `json:"channel"`
		Streams []media.StreamInfo `json:"streams"`
	}{j.app, j.channel, streams})
	return nil
}
