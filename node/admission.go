package node

import (
	"context"
	"slices"
	"time"

	"github.com/ternmesh/tern/control"
	"github.com/ternmesh/tern/node/access"
	"github.com/ternmesh/tern/node/access/token"
)

// unknownKeyFor bounds how long a client waits because its token names a key that the app's set does not have.
const unknownKeyFor = 3 * time.Second

// admissionOf is what an app's policy means to its clients. Its public keys are not in the policy: they are looked up
// when somebody enters.
func admissionOf(a control.App) access.App {
	r := a.Admission
	return access.App{
		App: token.App{
			ID: a.ID, Certificates: a.Certificates, Auth: a.Auth,
			Issuers: r.Issuers, Legacy006: r.Legacy006, RoomTokens: r.RoomTokens, Disabled: r.Disabled, Banned: r.Banned,
		},
		Key: r.AppKey, Tenants: r.Tenants,
		Limits: access.Limits{Channels: a.Limits.Channels, Publishers: a.Limits.Publishers, Viewers: a.Limits.Viewers, PublisherBits: 1000 * a.Limits.PublisherKbps},
	}
}

// keySets lists the sources of public keys that the policy names, each once.
func (e *enforced) keySets() (urls []string) {
	for _, a := range e.apps {
		if a.keySet != "" && !slices.Contains(urls, a.keySet) {
			urls = append(urls, a.keySet)
		}
	}
	slices.Sort(urls)
	return urls
}

// appFor is the enforcer's app with the public keys of this moment.
func (n *Node) appFor(id string) (access.App, bool) {
	a, ok := n.enforcer.app(id)
	if a.keySet != "" {
		a.admission.Keys = n.keysets.Keys(a.keySet)
	}
	return a.admission, ok
}

// unknownKey reads an app's key set again, unless that happened a moment ago; false if it has none.
func (n *Node) unknownKey(ctx context.Context, app string) bool {
	a, _ := n.enforcer.app(app)
	if a.keySet == "" {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, unknownKeyFor)
	defer cancel()
	n.keysets.Refresh(ctx, a.keySet)
	return true
}

// keysChanged holds running sessions against the keys of now: a key that its issuer withdrew ends what it opened.
func (n *Node) keysChanged() {
	select {
	case <-n.ready:
		n.access.Reauthorise()
	default:
	}
}

// accessURLOf is where clients reach another node of the mesh.
func (n *Node) accessURLOf(node string) (string, bool) {
	m, ok := n.mesh.Lookup(node)
	return m.Health.AccessURL, ok && m.Alive && m.Health.AccessURL != ""
}
