package token

import (
	"errors"
	"net/http"
)

// Reason says why a token is refused. It is an error, so that errors can wrap it;
// its text is stable and fit for logs and metric labels. It never holds anything
// that came from the token.
type Reason string

// The reasons, in the order in which Verify can meet them.
const (
	ReasonMissing       Reason = "missing"        // the app wants a token and there is none
	ReasonAuthMode      Reason = "auth_mode"      // the app's auth mode is unknown: nobody enters
	ReasonTooLarge      Reason = "too_large"      // more than MaxSize bytes
	ReasonUnsupported   Reason = "unsupported"    // no format that the app takes, or another algorithm
	ReasonMalformed     Reason = "malformed"      // does not decode
	ReasonWrongApp      Reason = "wrong_app"      // made for another app
	ReasonNoCertificate Reason = "no_certificate" // the app has no key to check with
	ReasonUnknownKey    Reason = "unknown_key"    // names a public key that the app's set does not have
	ReasonBadSignature  Reason = "bad_signature"  // no certificate of the app made it
	ReasonNotYetValid   Reason = "not_yet_valid"  // issued in the future, or nbf not reached
	ReasonExpired       Reason = "expired"        // its own expiry has passed
	ReasonLifetime      Reason = "lifetime"       // asks for more than 24 hours
	ReasonNoService     Reason = "no_service"     // a 007 token without an RTC service
	ReasonWrongChannel  Reason = "wrong_channel"  // good for another channel
	ReasonWrongUser     Reason = "wrong_user"     // good for another user
	ReasonNoJoin        Reason = "no_join"        // may not join, or no longer
	ReasonDisabled      Reason = "disabled"       // genuine, but the app is disabled
	ReasonBanned        Reason = "banned"         // genuine, but its user is banned

	// What Verify cannot see and its caller refuses.
	ReasonNotGranted   Reason = "not_granted"   // may join, but not do what was asked
	ReasonReplayed     Reason = "replayed"      // a room token that was used before
	ReasonWrongSession Reason = "wrong_session" // a room token of another session
)

// Error makes a Reason an error that others wrap.
func (r Reason) Error() string { return "token refused: " + string(r) }

// Status is the HTTP status for the wire: 403 when the token is genuine and in date
// but does not reach far enough, 401 for everything else. It tells a forger nothing
// but that the token was not accepted.
func (r Reason) Status() int {
	switch r {
	case ReasonLifetime, ReasonNoService, ReasonWrongChannel, ReasonWrongUser, ReasonNoJoin, ReasonNotGranted,
		ReasonDisabled, ReasonBanned, ReasonReplayed, ReasonWrongSession:
		return http.StatusForbidden
	}
	return http.StatusUnauthorized
}

// ReasonOf returns the Reason that err wraps, or "" if it wraps none.
func ReasonOf(err error) Reason {
	var r Reason
	if errors.As(err, &r) {
		return r
	}
	return ""
}
