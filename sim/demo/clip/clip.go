package clip

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/pion/webrtc/v4/pkg/media/ivfreader"
	"github.com/pion/webrtc/v4/pkg/media/oggreader"
)

var (
	//go:embed video.ivf
	videoFile []byte
	//go:embed audio.ogg
	audioFile []byte
)

const (
	videoClock = 90000
	audioClock = 48000
	// audioFrame is what one Opus packet of the file lasts; generate.sh asks for it.
	audioFrame = 20 * time.Millisecond
	// opusTagsSignature begins the second header page of an Ogg Opus file; the reader takes the first itself.
	opusTagsSignature = "OpusTags"
)

// Clip is the loop as encoded frames. Nobody changes it after Load, so players may share it.
type Clip struct {
	video      [][]byte
	keys       []int // indexes of key frames in video
	audio      [][]byte
	videoFrame time.Duration // how long one picture lasts
}

// Load parses the embedded files. It fails only if the files were replaced by something else.
func Load() (*Clip, error) {
	c := &Clip{}
	if err := c.loadVideo(); err != nil {
		return nil, fmt.Errorf("clip: video.ivf: %w", err)
	}
	if err := c.loadAudio(); err != nil {
		return nil, fmt.Errorf("clip: audio.ogg: %w", err)
	}
	return c, nil
}

func (c *Clip) loadVideo() error {
	r, header, err := ivfreader.NewWith(bytes.NewReader(videoFile))
	if err != nil {
		return err
	}
	if header.FourCC != "VP80" || header.TimebaseDenominator == 0 {
		return fmt.Errorf("format %q with time base 1/%d, want VP8", header.FourCC, header.TimebaseDenominator)
	}
	c.videoFrame = time.Second * time.Duration(header.TimebaseNumerator) / time.Duration(header.TimebaseDenominator)
	for {
		frame, _, err := r.ParseNextFrame()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if len(frame) > 0 && frame[0]&1 == 0 { // RFC 6386, section 9.1: bit 0 is clear in a key frame
			c.keys = append(c.keys, len(c.video))
		}
		c.video = append(c.video, frame)
	}
	if len(c.keys) == 0 || c.keys[0] != 0 {
		return errors.New("does not begin with a key frame")
	}
	return nil
}

func (c *Clip) loadAudio() error {
	r, _, err := oggreader.NewWith(bytes.NewReader(audioFile))
	if err != nil {
		return err
	}
	for {
		page, _, err := r.ParseNextPage()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if !bytes.HasPrefix(page, []byte(opusTagsSignature)) {
			c.audio = append(c.audio, page)
		}
	}
	if len(c.audio) == 0 {
		return errors.New("holds no sound")
	}
	return nil
}

// Duration is how long the pictures of one loop last.
func (c *Clip) Duration() time.Duration { return time.Duration(len(c.video)) * c.videoFrame }
