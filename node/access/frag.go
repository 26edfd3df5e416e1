package access

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// maxCandidates bounds what one peer may make this node probe: in a description, and again in all that follows it.
const maxCandidates = 64

// frag is an SDP fragment of trickle ICE (RFC 8840): credentials and candidates of the
// one transport that a bundled session has.
type frag struct {
	ufrag, pwd string // the first that the fragment names, "" if none
	candidates []candidate
	end        bool // a=end-of-candidates
}

// candidate is one remote candidate with the media section that it came in.
type candidate struct {
	mid  string
	line string // without "a=" and "candidate:"
}

var errFrag = errors.New("not an SDP fragment")

// parseFrag reads a fragment. Unknown attributes and candidates that cannot be used
// are skipped, as the RFC wants; what is not SDP at all is an error.
func parseFrag(body []byte) (frag, error) {
	var f frag
	mid := ""
	for n, raw := range bytes.Split(body, []byte("\n")) {
		line := strings.TrimSuffix(string(raw), "\r")
		if line == "" {
			continue
		}
		if len(line) < 2 || line[1] != '=' || line[0] < 'a' || line[0] > 'z' {
			return frag{}, fmt.Errorf("%w: line %d", errFrag, n+1)
		}
		key, value, _ := strings.Cut(line[2:], ":")
		switch {
		case line[0] == 'm':
			mid = ""
		case line[0] != 'a':
		case key == "mid":
			mid = value
		case key == "ice-ufrag" && f.ufrag == "":
			f.ufrag = value
		case key == "ice-pwd" && f.pwd == "":
			f.pwd = value
		case key == "end-of-candidates":
			f.end = true
		case key == "candidate" && len(f.candidates) < maxCandidates && usableCandidate(value):
			f.candidates = append(f.candidates, candidate{mid, value})
		}
	}
	if f.ufrag != "" && !iceChars(f.ufrag, 4) || f.pwd != "" && !iceChars(f.pwd, 22) {
		return frag{}, fmt.Errorf("%w: credentials", errFrag)
	}
	return f, nil
}

// iceChars is the grammar of ICE credentials: at least so many of ALPHA, DIGIT, + and /.
func iceChars(s string, least int) bool {
	const set = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	return len(s) >= least && len(s) <= 256 && strings.Trim(s, set) == ""
}

// usableCandidate says whether a candidate is worth handing to ICE: UDP, component 1,
// and a literal address of one host. Names (mDNS) are not resolved: the browser will be
// found by the checks that it sends.
func usableCandidate(line string) bool {
	// foundation component transport priority address port typ type ...
	f := strings.Fields(line)
	if len(f) < 8 || f[1] != "1" || !strings.EqualFold(f[2], "udp") || f[6] != "typ" {
		return false
	}
	addr, err := netip.ParseAddr(f[4])
	if err != nil || addr.IsUnspecified() || addr.IsMulticast() || addr.Zone() != "" || len(line) > 512 {
		return false
	}
	port, err := strconv.ParseUint(f[5], 10, 16)
	return err == nil && port > 0
}

// fragOf writes the fragment that answers an ICE restart, from our own full SDP. The
// session is bundled, so the first media section says it all; credentials may stand
// above it, at the session.
func fragOf(sdp string) string {
	var session, section strings.Builder
	out := &session
	for line := range strings.SplitSeq(sdp, "\n") {
		line = strings.TrimSuffix(line, "\r")
		if strings.HasPrefix(line, "m=") {
			if out == &section {
				break
			}
			out = &section
			out.WriteString(line + "\r\n")
		}
		switch key, _, _ := strings.Cut(line, ":"); key {
		case "a=mid", "a=ice-ufrag", "a=ice-pwd", "a=ice-options", "a=candidate":
			out.WriteString(line + "\r\n")
		}
	}
	return session.String() + section.String() + "a=end-of-candidates\r\n"
}
