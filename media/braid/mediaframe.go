package braid

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/tls"
	"encoding/binary"
	"fmt"
)

// Layout of a media frame: see doc.go.
const (
	mediaHeader = 8
	sealTag     = 16
	maxSequence = 1<<48 - 1
	// maxRecords is the room for records in one frame, in bytes, whatever the path.
	maxRecords = MaxDatagram - MaxHeader - mediaHeader - sealTag
	keyLabel   = "EXPORTER-tern media"
	tagLabel   = "EXPORTER-tern media tag"
)

// mediaKey seals or opens the frames of one direction and one key epoch. Not safe for concurrent use: the nonce is kept
// here so that no call allocates.
type mediaKey struct {
	aead  cipher.AEAD
	iv    [12]byte
	nonce [12]byte
}

// exporter yields keying material of one QUIC connection.
type exporter func(label string, context []byte, length int) ([]byte, error)

func exporterOf(cs tls.ConnectionState) exporter { return cs.ExportKeyingMaterial }

// newMediaKey derives the key of a direction (0: frames of the dialing side, 1: of the accepting side) and epoch.
func newMediaKey(export exporter, direction, epoch uint8) (*mediaKey, error) {
	m, err := export(keyLabel, []byte{direction, epoch}, 16+12)
	if err != nil {
		return nil, fmt.Errorf("exporting a media key: %w", err)
	}
	block, err := aes.NewCipher(m[:16])
	if err != nil {
		return nil, fmt.Errorf("media key: %w", err)
	}
	k := &mediaKey{}
	if k.aead, err = cipher.NewGCM(block); err != nil {
		return nil, fmt.Errorf("media key: %w", err)
	}
	copy(k.iv[:], m[16:])
	return k, nil
}

// setNonce is IV xor (epoch, sequence): exactly bytes 1 to 7 of the frame. The sequence never repeats within a
// connection, so no nonce does, even when the 8-bit epoch comes round again.
func (k *mediaKey) setNonce(frame []byte) {
	k.nonce = k.iv
	for i := 1; i < mediaHeader; i++ {
		k.nonce[i+4] ^= frame[i]
	}
}

// seal turns a buffer of mediaHeader free bytes and records into a media frame, in place; cap(frame) must leave room
// for the tag. It returns the longer frame.
func (k *mediaKey) seal(frame []byte, tag, epoch uint8, seq uint64) []byte {
	putMediaHeader(frame, tag, epoch, seq)
	k.setNonce(frame)
	return k.aead.Seal(frame[:mediaHeader], k.nonce[:], frame[mediaHeader:], frame[:mediaHeader])
}

// open decrypts a frame in place and returns its records. A frame that does not open is ruined.
func (k *mediaKey) open(frame []byte) (records []byte, ok bool) {
	k.setNonce(frame)
	records, err := k.aead.Open(frame[mediaHeader:mediaHeader], k.nonce[:], frame[mediaHeader:], frame[:mediaHeader])
	return records, err == nil
}

func putMediaHeader(frame []byte, tag, epoch uint8, seq uint64) {
	binary.BigEndian.PutUint64(frame, seq&maxSequence)
	frame[0], frame[1] = tag, epoch
}

// parseMediaHeader reads the clear part of a frame.
func parseMediaHeader(frame []byte) (tag, epoch uint8, seq uint64, ok bool) {
	if len(frame) < mediaHeader+sealTag {
		return 0, 0, 0, false
	}
	return frame[0], frame[1], binary.BigEndian.Uint64(frame) & maxSequence, true
}
