package control

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// largePolicy is what an operator of 1,000 apps applies: 2 certificates each, 10,000 blocked prefixes.
func largePolicy() []byte {
	rng := rand.New(rand.NewPCG(1, 1))
	var b strings.Builder
	b.WriteString("regions: [{id: eu}, {id: us-east}, {id: asia}]\napps:\n")
	for i := range 1000 {
		fmt.Fprintf(&b, "  - id: app%d\n    name: Application number %d\n    certificates: [%016x%016x, %016x%016x]\n    fence: [eu, us-east]\n",
			i, i, rng.Uint64(), rng.Uint64(), rng.Uint64(), rng.Uint64())
	}
	b.WriteString("blocklist:\n")
	for i := range 10_000 {
		fmt.Fprintf(&b, "  - %d.%d.%d.0/24\n", 1+i/2500, i/10%250, i%10*20)
	}
	return []byte(b.String())
}

// BenchmarkLargePolicy is the way of a change on the leader without network and disk: parse, merge, encode, apply.
func BenchmarkLargePolicy(b *testing.B) {
	doc := largePolicy()
	s := &state{}
	b.ReportMetric(float64(len(doc)), "document-bytes")
	for b.Loop() {
		p, err := Parse(doc)
		if err != nil {
			b.Fatal(err)
		}
		if p, err = Merge(p, s.policy); err != nil {
			b.Fatal(err)
		}
		stored, err := encodeDocument(p)
		if err != nil {
			b.Fatal(err)
		}
		c := command{kind: commandApply, base: s.version, who: "bench", when: time.Now(), document: stored}
		entry, err := c.encode()
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.apply(entry); err != nil {
			b.Fatal(err)
		}
	}
	var snap bytes.Buffer
	if err := s.snapshot(&snap); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(snap.Len()), "snapshot-bytes")
	b.ReportMetric(float64(len(s.document)), "stored-bytes")
}

// BenchmarkParseLargePolicy reads the document as an operator writes it, and as tern policy apply sends it.
func BenchmarkParseLargePolicy(b *testing.B) {
	written := largePolicy()
	p, err := Parse(written)
	if err != nil {
		b.Fatal(err)
	}
	sent, err := EncodePolicy(p)
	if err != nil {
		b.Fatal(err)
	}
	for name, doc := range map[string][]byte{"written": written, "sent": sent} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := Parse(doc); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDiffLargePolicy compares two policies that differ in one app of 1,000 and one prefix of 10,000.
func BenchmarkDiffLargePolicy(b *testing.B) {
	old, err := Parse(largePolicy())
	if err != nil {
		b.Fatal(err)
	}
	next := old
	next.Apps, next.Blocklist = slices.Clone(old.Apps), next.Blocklist[1:]
	next.Apps[5].Name = "another"
	for b.Loop() {
		if d := Diff(old, next); len(d) != 2 {
			b.Fatal(d)
		}
	}
}
