package token

import (
	"fmt"
	"slices"
	"time"
)

// videoGrant is LiveKit's, as far as it says what a client may do. Pointers are its
// tri-state rights: absent means a default, which is not the same for all.
type videoGrant struct {
	RoomJoin       bool     `json:"roomJoin,omitempty"`
	Room           string   `json:"room,omitempty"`
	CanPublish     *bool    `json:"canPublish,omitempty"`
	CanSubscribe   *bool    `json:"canSubscribe,omitempty"`
	CanPublishData *bool    `json:"canPublishData,omitempty"`
	Sources        []string `json:"canPublishSources,omitempty"`
}

// Sources by what they let a client publish.
var (
	audioSources = []string{"microphone", "screen_share_audio"}
	videoSources = []string{"camera", "screen_share"}
)

// livekit applies LiveKit's rules: 60 s of leeway at both ends, defaults for what is
// absent, and a room that is named. Its tokens may live longer than ours, so they are
// cut 24 hours after they were issued (or became valid).
func (c *claims) livekit(w want) (Grant, error) {
	end, err := c.livekitTimes(w.now)
	if err != nil {
		return Grant{}, err
	}
	user := c.livekitUser()
	switch {
	case !c.Video.RoomJoin:
		return Grant{}, fmt.Errorf("%w: roomJoin is not set", ReasonNoJoin)
	case c.Video.Room == "" || (!w.anyChan && c.Video.Room != w.channel):
		return Grant{}, ReasonWrongChannel
	case user == "":
		return Grant{}, fmt.Errorf("%w: the token names nobody", ReasonWrongUser)
	case w.user != "" && w.user != user:
		return Grant{}, ReasonWrongUser
	}
	return c.livekitRights(end), nil
}

// livekitUser is the identity: sub, else jti.
func (c *claims) livekitUser() string {
	if c.Subject == "" {
		return c.ID
	}
	return c.Subject
}

// livekitTimes returns when the grant ends.
func (c *claims) livekitTimes(now time.Time) (time.Time, error) {
	exp, ok := numericDate(c.ExpiresAt)
	if !ok {
		return exp, fmt.Errorf("%w: exp is required", ReasonMalformed)
	}
	var start time.Time
	for _, v := range []*float64{c.NotBefore, c.IssuedAt} { // iat counts if both are there
		if v == nil {
			continue
		}
		if start, ok = numericDate(v); !ok {
			return exp, fmt.Errorf("%w: iat or nbf", ReasonMalformed)
		}
		if start.After(now.Add(clockSkew)) {
			return exp, ReasonNotYetValid
		}
	}
	if start.IsZero() {
		return exp, fmt.Errorf("%w: iat or nbf is required", ReasonMalformed)
	}
	end := earlier(exp.Add(clockSkew), start.Add(MaxLifetime))
	if !now.Before(end) {
		return exp, ReasonExpired
	}
	return end, nil
}

// livekitRights maps the grant: publishing is allowed unless forbidden, sources narrow
// it, data follows publishing.
func (c *claims) livekitRights(end time.Time) Grant {
	v := c.Video
	g := Grant{App: c.Issuer, Channel: v.Room, User: c.livekitUser(), Join: end}
	or := func(b *bool, absent bool) bool {
		if b == nil {
			return absent
		}
		return *b
	}
	publish := or(v.CanPublish, true)
	one := func(sources []string) bool {
		return len(v.Sources) == 0 || slices.ContainsFunc(sources, func(s string) bool { return slices.Contains(v.Sources, s) })
	}
	for _, r := range []struct {
		may bool
		to  *time.Time
	}{
		{publish && one(audioSources), &g.PublishAudio},
		{publish && one(videoSources), &g.PublishVideo},
		{or(v.CanPublishData, publish), &g.PublishData},
		{or(v.CanSubscribe, true), &g.Subscribe},
	} {
		if r.may {
			*r.to = end
		}
	}
	return g
}

// videoOf is the grant of a token to make.
func videoOf(o CreateOptions) *videoGrant {
	has := func(right string) bool { return slices.Contains(o.Can, right) }
	audio, video := has(CanPublishAudio), has(CanPublishVideo)
	publish, subscribe, data := audio || video, has(CanSubscribe), has(CanPublishData)
	v := &videoGrant{RoomJoin: true, Room: o.Channel, CanPublish: &publish, CanSubscribe: &subscribe, CanPublishData: &data}
	if audio && !video {
		v.Sources = audioSources
	}
	if video && !audio {
		v.Sources = videoSources
	}
	return v
}
