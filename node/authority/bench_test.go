package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ternmesh/tern/control/lease"
	"github.com/ternmesh/tern/mesh/identity"
)

// BenchmarkGive is one lease given, by the size of the book, the log's and the book's way to the disk included:
// go test -run '^$' -bench Give ./node/authority
func BenchmarkGive(b *testing.B) {
	for _, machines := range []int{100, 1000, lease.MaxEntries} {
		b.Run(fmt.Sprint(machines), func(b *testing.B) {
			dir := b.TempDir()
			ca := filepath.Join(dir, "ca")
			check := func(err error) {
				b.Helper()
				if err != nil {
					b.Fatal(err)
				}
			}
			check(identity.InitCA(ca, "m", time.Now().Add(-time.Hour)))
			check(identity.IssueAuthority(ca, dir, identity.AuthorityOptions{Name: "one", Valid: 400 * 24 * time.Hour}))
			store, err := OpenStore(filepath.Join(dir, "book"))
			check(err)
			signer, err := identity.LoadSigner(ca)
			check(err)
			a, err := New(Config{
				Store: store, Signer: signer, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
				Load: func() (identity.Authority, error) { return identity.LoadAuthority(identity.CAFile(ca), dir) },
			})
			check(err)
			check(a.consider(b.Context(), time.Now()))
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			check(err)
			id, err := identity.KeyID(&key.PublicKey)
			check(err)
			check(store.change(func(book *lease.Book) ([]Line, error) {
				book.Machines = make(map[string]lease.Entry)
				for i := range machines {
					book.Machines[fmt.Sprintf("node-%d", i)] = lease.Entry{
						Region: "eu", Fingerprint: fmt.Sprintf("%032x", i), Key: id, By: "operator", Nonce: strings.Repeat("0", 32), Serial: strings.Repeat("0", 32), From: "192.0.2.1",
					}
				}
				return nil, nil
			}))
			r := lease.Request{Version: 1, Mesh: "m", Node: "node-7", Fingerprint: fmt.Sprintf("%032x", 7), Nonce: strings.Repeat("0", 32)}
			for b.Loop() {
				if _, _, err := a.give(time.Now(), r, &key.PublicKey, "192.0.2.1"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
