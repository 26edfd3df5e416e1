// Package keyset fetches apps' public keys: a JWKS from a URL or a file, kept in memory
// and looked at again, so that an issuer can rotate its keys without a word to the mesh.
//
//	keyset.go   Store: Want, Keys, Refresh, Run
//	fetch.go    one reading of a source
//
// # Rules
//
//   - A URL is read when it is first wanted, every 5 minutes after that (or as often as
//     its Cache-Control max-age says, between 1 minute and 1 hour), and at once when a
//     token names a key that is not there, but at most every 10 seconds. A file is looked
//     at every 5 seconds.
//   - A source that fails is tried again after 15 seconds; its last good keys stay for
//     24 hours. After that they are gone: a set that nobody can withdraw is no set.
//   - Answers over 64 KiB, redirects and anything but status 200 are failures. A set
//     with a private key in it is refused whole.
//
// # Who owns what
//
// Store.mu guards the sources. Fetches run in Run's goroutines, one a source at a time;
// Refresh waits for one that is under way instead of starting another.
//
// # What it does not do
//
// Nothing is kept on disk: a node that starts while a source is down admits nobody by
// its keys until it answers. No conditional requests. Which sources may be named is the
// policy's affair (https, a file, or http to this machine).
package keyset
