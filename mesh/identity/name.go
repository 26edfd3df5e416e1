package identity

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// maxName is the longest mesh, region or node name, in bytes. 63 is a DNS label's limit, so that names fit there too.
const maxName = 63

// reservedRegion cannot be a region: tern://MESH/role/voter would read as node "voter" in it.
const reservedRegion = "role"

// CheckName returns nil if name is usable as a mesh, region or node name, else an error that starts with what ("node
// name" and the like) and says which rule was broken.
func CheckName(what, name string) error {
	if name == "" {
		return fmt.Errorf("%s is empty; use 1-%d of a-z, 0-9 and '-'", what, maxName)
	}
	if len(name) > maxName {
		return fmt.Errorf("%s %.20q... has %d characters; use 1-%d of a-z, 0-9 and '-'", what, name, len(name), maxName)
	}
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return fmt.Errorf("%s %q has %q at position %d; use 1-%d of a-z, 0-9 and '-'", what, name, c, i+1, maxName)
		}
	}
	return nil
}

// CheckRegion is CheckName for a region, which besides must not be the reserved word "role".
func CheckRegion(name string) error {
	if name == reservedRegion {
		return fmt.Errorf("region name %q is reserved; choose another", name)
	}
	return CheckName("region name", name)
}

// NodeID returns the compact id of a node: the first four bytes, big-endian, of SHA-256("MESH/NODE").
func NodeID(mesh, node string) uint32 {
	sum := sha256.Sum256([]byte(mesh + "/" + node))
	return binary.BigEndian.Uint32(sum[:4])
}
