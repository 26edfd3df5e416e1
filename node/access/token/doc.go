// Package token decides what a client's token grants. It is pure: no I/O, no
// goroutine, no log, no clock; time and randomness are handed in.
//
// # Reading order
//
//	reason.go   why a token is refused, and how much of that the wire may learn
//	grant.go    App, Grant, Verify: size cap, choice of format, one rule for all
//	jwt.go      Tern's own format: a JWS with the claims listed there; room tokens
//	keyset.go   public keys: ES256, EdDSA, JWKS, PEM
//	livekit.go  LiveKit's grants, which are a JWT as well
//	agora.go    Agora AccessToken2 "007": base64, inflate, parse, signature
//	rtc.go      what a verified 007 grants: services, channel, user, expiries
//	legacy.go   the older "006", where an app's policy asks for it
//	create.go   builds tokens of every format
//	inspect.go  says what a token holds and why it would be refused
//
// # Formats
//
// A token is at most 4 KiB. One that begins with "007" is an AccessToken2, with "006"
// its forerunner; one with two dots is a JWT, and LiveKit's if it has the claim video;
// anything else is unsupported.
//
// 007: "007" + standard padded base64 of a zlib stream of
//
//	string signature (32 bytes), then the signed body:
//	string app id, u32 issue time, u32 expiry after it, u32 salt, u16 services, services
//
// all little-endian; string = u16 length + bytes; a service is u16 type, a map
// u16 count x (u16 privilege, u32 seconds after the issue time), and fields of
// its type. Signature: HMAC-SHA256 under a key derived from certificate, issue
// time and salt, over the body exactly as received.
//
// JWT: header {"alg":"HS256"} (or ES256, EdDSA; kid names the key); claims iss (app
// id), sub (user), chan (channel, or "*" for every channel of the app), iat, exp, nbf
// (optional) and can, a list of "publish_audio", "publish_video", "publish_data",
// "subscribe". What is not listed is not granted. The key of HS256 is the bytes of one
// of the app's certificates, that of the others is in the app's key set.
//
// Room token: the same with sub, one chan, sid (the session it is bound to), jti (its
// own name, good once) and at most 15 minutes between iat and exp.
//
// LiveKit: HS256; claims iss (API key, mapped to the app by its policy), sub or jti
// (user), exp, nbf or iat, and video with roomJoin, room and what may be published.
//
// # Invariants
//
//   - Nothing in a token is believed before its signature was checked; what is
//     parsed before (app id, shape) only leads to refusals.
//   - Work and memory are bounded before anything is decoded: 4 KiB of token,
//     16 KiB inflated.
//   - No grant outlives 24 hours from the token's issue time, nor join. (006 does not
//     tell its issue time: more than 24 hours to go is refused.)
//   - A certificate is a key of HS256 only, a public key of its own algorithm only.
//   - Privileges of two services in one 007 token are never merged.
//   - The primary certificate is tried first; comparisons take constant time.
//   - The empty certificate is never a key.
//
// # What it does not do
//
// The literal user "0" in a 007 token is that user, not a wildcard; only the empty
// user is. Key sets are handed in (node fetches them), and so is the memory of used
// room tokens (node/access has it). Revocation is the caller's: it verifies again when
// the app changes. RSA is not served.
package token
