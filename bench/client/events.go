package client

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/url"
	"strings"
)

const (
	// relEvents is the Link relation of a session's event stream, in WHEP's drafts.
	relEvents = "urn:ietf:params:whep:ext:core:server-sent-events"
	eventMove = "reconnect"
	// maxEventLine bounds a line of an event stream, in bytes.
	maxEventLine = 8 << 10
)

// move is what a server asks of a session: to be opened anew at URL, or where it was opened if that is empty.
type move struct {
	URL string `json:"url"`
}

// eventsOf finds the event stream among the Link headers of an answer, relative to base; "" if there is none. It reads what
// servers write (RFC 8288): links in one header or several, parameters quoted or not.
func eventsOf(base *url.URL, headers []string) string {
	for _, h := range headers {
		for h != "" {
			begin := strings.IndexByte(h, '<')
			end := strings.IndexByte(h, '>')
			if begin < 0 || end < begin {
				break
			}
			target, rest := h[begin+1:end], h[end+1:]
			params := rest
			if next := strings.IndexByte(rest, '<'); next >= 0 {
				params, rest = rest[:next], rest[next:]
			} else {
				rest = ""
			}
			if hasRel(params) {
				if at, err := base.Parse(target); err == nil {
					return at.String()
				}
			}
			h = rest
		}
	}
	return ""
}

// hasRel looks for the relation among a link's parameters.
func hasRel(params string) bool {
	for part := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		value = strings.Trim(strings.TrimRight(strings.TrimSpace(value), ", "), `"`)
		if strings.EqualFold(strings.TrimSpace(name), "rel") && value == relEvents {
			return true
		}
	}
	return false
}

// readMoves gives the moves of an event stream to f, in their order, until the stream ends. Other events, comments and what
// makes no sense are passed over.
func readMoves(r io.Reader, f func(move)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 512), maxEventLine)
	var name string
	var data []byte
	for lines.Scan() {
		line := bytes.TrimSuffix(lines.Bytes(), []byte("\r"))
		if len(line) == 0 {
			var m move
			if name == eventMove && (len(data) == 0 || json.Unmarshal(data, &m) == nil) {
				f(m)
			}
			name, data = "", data[:0]
			continue
		}
		field, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "event":
			name = string(value)
		case "data":
			if len(data)+len(value) <= maxEventLine {
				data = append(data, value...)
			}
		}
	}
	return lines.Err()
}

// target is the endpoint that a move names, seen from the endpoint in use; "" if a session must not go there: a server
// never leads from https to http, where the token would be read.
func (m move) target(from string) string {
	base, err := url.Parse(from)
	if err != nil || m.URL == "" {
		return from
	}
	to, err := base.Parse(m.URL)
	if err != nil || to.Host == "" || to.Scheme != "https" && (to.Scheme != "http" || base.Scheme != "http") {
		return ""
	}
	return to.String()
}
