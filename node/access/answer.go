package access

import (
	"fmt"
	"slices"

	"github.com/pion/sdp/v3"
)

// candidatesWhereTheyCount moves candidates out of refused media sections into the first accepted one. The library writes them
// into the first section even if that is refused, where a client ignores them (RFC 8829, 5.2.2): one behind an address translator
// could then not reach us at all.
func candidatesWhereTheyCount(text string) (string, error) {
	var desc sdp.SessionDescription
	if err := desc.UnmarshalString(text); err != nil {
		return "", fmt.Errorf("read our own description: %w", err)
	}
	accepted := slices.IndexFunc(desc.MediaDescriptions, func(m *sdp.MediaDescription) bool { return m.MediaName.Port.Value != 0 })
	if accepted < 0 {
		return text, nil
	}
	var moved []sdp.Attribute
	for _, m := range desc.MediaDescriptions[:accepted] {
		m.Attributes = slices.DeleteFunc(m.Attributes, func(a sdp.Attribute) bool {
			stray := a.Key == "candidate" || a.Key == "end-of-candidates"
			if stray {
				moved = append(moved, a)
			}
			return stray
		})
	}
	if len(moved) == 0 {
		return text, nil
	}
	m := desc.MediaDescriptions[accepted]
	m.Attributes = append(m.Attributes, moved...)
	out, err := desc.Marshal()
	return string(out), err
}
