package enrol

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// maxMachineFile bounds what is read of a file that names the machine, in bytes.
const maxMachineFile = 64 << 10

// Fingerprint is this machine's: 32 lower-case hex digits of /etc/machine-id and of the first network card on a bus (virtual
// ones come and go, USB is unplugged, and a second card must change nothing). With a file, it is of that file's content instead.
// Whoever runs on the machine may compute it; it is no secret.
func Fingerprint(file string) (string, error) {
	if file == "" {
		return fingerprintOf(os.DirFS("/"))
	}
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("identity.machine_file: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxMachineFile))
	if err == nil && len(strings.TrimSpace(string(b))) == 0 {
		err = errors.New("it is empty")
	}
	if err != nil {
		return "", fmt.Errorf("identity.machine_file %s: %w", file, err)
	}
	return digest("file", strings.TrimSpace(string(b))), nil
}

// fingerprintOf reads the host's files.
func fingerprintOf(host fs.FS) (string, error) {
	b, err := fs.ReadFile(host, "etc/machine-id")
	id := strings.TrimSpace(string(b))
	if err == nil && (id == "" || id == "uninitialized") {
		err = errors.New("it is empty")
	}
	if err != nil {
		return "", fmt.Errorf("this machine's fingerprint needs /etc/machine-id (%w): run systemd-machine-id-setup, or in a container name a file of this machine alone in identity.machine_file", err)
	}
	return digest("host", id, firstCard(host)), nil
}

// firstCard is the hardware address of the network card with the lowest place on a bus; empty without one (in a container).
func firstCard(host fs.FS) string {
	const dir = "sys/class/net"
	entries, _ := fs.ReadDir(host, dir)
	first, address := "", ""
	for _, e := range entries {
		place, err := fs.ReadLink(host, path.Join(dir, e.Name()))
		if err != nil || strings.Contains(place, "/virtual/") || strings.Contains(place, "/usb") || first != "" && place >= first {
			continue
		}
		if b, err := fs.ReadFile(host, path.Join(dir, e.Name(), "address")); err == nil {
			first, address = place, strings.TrimSpace(string(b))
		}
	}
	return address
}

func digest(parts ...string) string {
	sum := sha256.Sum256([]byte("tern machine 1\n" + strings.Join(parts, "\n")))
	return hex.EncodeToString(sum[:16])
}
