// Package gate decides who may do what on a node's admin listener, and gets the operator's tools through it.
//
// Default is no. A caller proves who it is in one of three ways: by the Unix socket (the kernel says which user connects;
// the node's own user and root are operators), by a client certificate of the mesh's CA that names a role, or by a bearer
// token whose hash the policy holds. A route is registered with the right that it needs, so there is none without.
//
//	caller.go            who somebody is, and what that allows; pure
//	gate.go              the check before each route: 401, 403, or the caller in the request's context
//	socket.go            the Unix socket, also where its path is longer than the system's limit
//	peer_linux.go        which user is at the other end of a socket; peer_other.go where the kernel does not say
//	client.go            an http.Client for a socket, an address or a URL, with a token or a certificate
//
// A Gate has no state of its own and is safe for concurrent use.
//
// Not here: what the routes do, the tokens (package control), the certificates (package mesh/identity), and any limit on
// guesses: a token has 256 random bits.
package gate
