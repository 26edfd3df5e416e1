package braid

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/quic-go/quic-go"
)

const (
	// maxMessages bounds the messages that wait to be written; a message that finds the queue full is refused.
	maxMessages = 256
	// MaxMessage is the largest message, in bytes.
	MaxMessage = 64 << 10
)

// SendMessage queues one message for the peer: reliable, in order. It never blocks and keeps no reference to message.
// An error means that the message will not arrive; without one it arrives unless the session ends before.
func (s *Session) SendMessage(message []byte) error {
	if len(message) > MaxMessage {
		return fmt.Errorf("%w: a message of %d bytes, at most %d", errTooLarge, len(message), MaxMessage)
	}
	if s.closing() {
		return ErrClosed
	}
	framed := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(message)), uint32(len(message)))
	select {
	case s.messages <- append(framed, message...):
		return nil
	default:
		return ErrQueueFull
	}
}

func (s *Session) writeMessages(ctx context.Context, out *quic.SendStream) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case m := <-s.messages:
			if _, err := out.Write(m); err != nil {
				return fmt.Errorf("writing a message: %w", err)
			}
		}
	}
}

func (s *Session) readMessages(in *quic.ReceiveStream) error {
	var head [4]byte
	var buf []byte
	for {
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return fmt.Errorf("reading a message: %w", err)
		}
		n := int(binary.BigEndian.Uint32(head[:]))
		if n > MaxMessage {
			return fmt.Errorf("the peer announced a message of %d bytes, at most %d", n, MaxMessage)
		}
		if cap(buf) < n {
			buf = make([]byte, n)
		}
		if _, err := io.ReadFull(in, buf[:n]); err != nil {
			return fmt.Errorf("reading a message: %w", err)
		}
		s.b.cfg.Handler.Message(s, buf[:n])
	}
}
