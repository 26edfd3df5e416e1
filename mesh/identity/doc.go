// Package identity is who a node is: the mesh's certificate authority, the node certificates that it issues, the
// mutual TLS built on them, and signatures that one node makes and every other node can check.
//
// # Certificates
//
// The CA is a self-signed ECDSA P-256 certificate whose URI SAN tern://MESH/role/ca names the mesh. A node
// certificate carries tern://MESH/REGION/NODE and, for a node that may vote, tern://MESH/role/voter. MESH, REGION
// and NODE are 1 to 63 of [a-z0-9-]; "role" is not a region, because it would make the two forms ambiguous.
// A lease authority's certificate (Ed25519) carries tern://MESH/role/authority-NAME, one of the admin API
// tern://MESH/role/admin-ROLE.
// The compact id of a node is the first four bytes (big-endian) of SHA-256("MESH/NODE").
//
// # Signatures
//
// ECDSA over SHA-256("tern signature v1" 0x00, context length as one byte, context, message). The context separates
// domains: a signature made for a health record is worthless as a signature of a policy.
//
// # Files, in the order of a certificate's life
//
//	name.go    names and compact ids
//	san.go     the URI SANs, written and parsed
//	ca.go      InitCA and Issue: from nothing to files; what all certificates of the CA have in common
//	files.go   PEM files: written whole or not at all, read with errors that say what to do
//	admin.go   certificates for the admin API
//	authority.go  certificates of lease authorities, and the node certificates that they sign
//	trust.go   the CA without its key, and TLS towards authorities
//	load.go    files to an Identity; Load refuses a pair that could not work
//	renew.go   a new certificate for an Identity that is in use
//	verify.go  a certificate to a Peer: chain, validity, names
//	tls.go     client and server configurations
//	sign.go    signatures
//	memo.go    signatures found good, shared by the nodes of one process
//
// # State and invariants
//
// An Identity does not change after Load, but for its certificate (Renew, behind an atomic pointer) and a bounded cache of
// verified certificates behind its own mutex; all methods are safe for concurrent use. Validity is judged by time.Now (virtual
// inside a testing/synctest bubble, so the times that certificates start at are parameters). A Peer is only ever made from a verified certificate, except
// by PeerOf, whose connection state was verified by the handshake.
//
// # What it does not do
//
// Who is revoked is told from outside (Revoke), and enrolment over the network is node/enrol's and node/authority's. The CA
// key lies unencrypted in its file (mode 0600): keep the directory off the nodes.
package identity
