package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ternmesh/tern/control"
	"github.com/ternmesh/tern/node/gate"
)

const (
	auditFollow  = time.Second // between two looks of audit tail -f
	maxAuditLine = 1 << 20     // bytes of one line of an exported log
)

func auditCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "audit", Short: "Read and verify the log of who changed what, and who was denied"}
	cmd.AddCommand(auditTailCommand(), auditVerifyCommand(), auditExportCommand())
	return cmd
}

// auditEntries reads the whole log behind seq, page by page.
func auditEntries(ctx context.Context, base gate.Target, seq uint64) (out []control.AuditEntry, err error) {
	for {
		var page []control.AuditEntry
		if err := admin(ctx, base, http.MethodGet, fmt.Sprintf("/v1/audit?after=%d", seq), nil, &page); err != nil {
			return out, err
		}
		if len(page) == 0 {
			return out, nil
		}
		out = append(out, page...)
		seq = page[len(page)-1].Seq
	}
}

func auditTailCommand() *cobra.Command {
	var lines int
	var follow, asJSON bool
	cmd := &cobra.Command{
		Use:     "tail",
		Short:   "Print the latest entries",
		Example: "  tern audit tail\n  tern audit tail -n 100 -f",
		Args:    args(0, "no arguments"),
	}
	base := adminFlag(cmd)
	cmd.Flags().IntVarP(&lines, "lines", "n", 20, "how many")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with new ones")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, one entry a line")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		out := cmd.OutOrStdout()
		entries, err := auditEntries(cmd.Context(), *base, 0)
		if err != nil {
			return err
		}
		last := uint64(0)
		if n := len(entries); n > 0 {
			last = entries[n-1].Seq
			entries = entries[n-min(n, max(lines, 0)):]
		}
		for {
			for _, e := range entries {
				if err := printAudit(out, e, asJSON); err != nil {
					return err
				}
				last = e.Seq
			}
			if !follow {
				return nil
			}
			select {
			case <-cmd.Context().Done():
				return nil
			case <-time.After(auditFollow):
			}
			if entries, err = auditEntries(cmd.Context(), *base, last); err != nil {
				return err
			}
		}
	}
	return cmd
}

func printAudit(out io.Writer, e control.AuditEntry, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(out).Encode(e)
	}
	b, err := e.Read()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d  %s  %s  %s", e.Seq, b.When.Format(time.RFC3339), b.Result, b.Action)
	if b.Result == control.AuditDone {
		fmt.Fprintf(out, " -> version %d", e.Version)
	}
	if b.Count > 1 {
		fmt.Fprintf(out, " (%d times)", b.Count)
	}
	who := b.Who
	if who == "" {
		who = "somebody unknown"
	}
	fmt.Fprintf(out, "  by %s", who)
	if b.From != "" {
		fmt.Fprintf(out, "  from %s", b.From)
	}
	if b.Detail != "" {
		fmt.Fprintf(out, "  %s", b.Detail)
	}
	fmt.Fprintln(out)
	for _, c := range b.Changes {
		fmt.Fprintf(out, "      %s\n", c)
	}
	return nil
}

// auditChain is what tern audit verify --json prints: a chain that fits in itself, and the nodes' marks to hold against it.
type auditChain struct {
	First     uint64                 `json:"first"`
	Head      control.AuditMark      `json:"head"`
	Witnesses []control.AuditWitness `json:"witnesses,omitempty"`
}

func auditVerifyCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Recompute the hash chain and compare it with what every node remembers",
		Long: "Every entry's hash covers the one before it. Voters keep the log; every other node keeps the newest mark that it has seen\n" +
			"signed with a policy. A log that was rewritten matches none of them. Exit status 1 means that something does not fit.",
		Example: "  tern audit verify\n  tern audit verify --file audit.jsonl",
		Args:    args(0, "no arguments"),
	}
	base := adminFlag(cmd)
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	cmd.Flags().StringVar(&file, "file", "", "an exported log to verify against the nodes' marks; - for standard input")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		out := cmd.OutOrStdout()
		var entries []control.AuditEntry
		var err error
		if file == "" {
			entries, err = auditEntries(cmd.Context(), *base, 0)
		} else {
			entries, err = readAudit(cmd, file)
		}
		if err != nil {
			return err
		}
		last, err := control.VerifyAudit(entries)
		if err != nil {
			return fmt.Errorf("the audit log is not whole: %w", err)
		}
		if len(entries) == 0 {
			return fmt.Errorf("%s holds no entries, so it proves nothing: it was emptied, or nothing had been logged yet", cmp.Or(file, "the audit log"))
		}
		if !*asJSON {
			fmt.Fprintf(out, "chain whole: entries %d to %d, head %s\n", entries[0].Seq, last.Seq, last.Hash)
		}
		var witnesses []control.AuditWitness
		if err := admin(cmd.Context(), *base, http.MethodGet, "/v1/audit/witnesses", nil, &witnesses); err != nil {
			return fmt.Errorf("the chain fits, but no node could be asked for its mark: %w", err)
		}
		if *asJSON { // in place of the lines below; what does not fit is an error either way
			if err := printJSON(out, auditChain{entries[0].Seq, last, witnesses}); err != nil {
				return err
			}
			out = io.Discard
		}
		if file == "" {
			return judgeWitnesses(out, "the log was rewritten or cut", entries, witnesses)
		}
		if err := judgeWitnesses(out, "the file was rewritten or cut, or is older than the log", entries, witnesses); err != nil {
			return err
		}
		var kept []control.AuditEntry // a page of what the voters keep
		if err := admin(cmd.Context(), *base, http.MethodGet, "/v1/audit?after=0", nil, &kept); err != nil {
			return fmt.Errorf("the chain fits, but no voter could be asked where the log begins: %w", err)
		}
		return judgeBeginning(entries, kept)
	}
	return cmd
}

// judgeBeginning holds an exported log's first entry against the first one that the voters keep: a chain fits from wherever it
// begins, so what was cut off there shows nowhere else.
func judgeBeginning(entries, kept []control.AuditEntry) error {
	if len(kept) > 0 && kept[0].Seq < entries[0].Seq {
		return fmt.Errorf("the file was cut: it begins with entry %d, the voters keep entries from %d on", entries[0].Seq, kept[0].Seq)
	}
	return nil
}

// judgeWitnesses holds the nodes' marks against the chain; verdict is what a mark that does not fit means.
func judgeWitnesses(out io.Writer, verdict string, entries []control.AuditEntry, witnesses []control.AuditWitness) error {
	hashes := make(map[uint64]string, len(entries))
	for _, e := range entries {
		hashes[e.Seq] = e.Hash
	}
	var bad []string
	for _, w := range witnesses {
		hash, known := hashes[w.Mark.Seq]
		switch {
		case w.Error != "":
			fmt.Fprintf(out, "  %s: not asked: %s\n", w.Node, w.Error)
		case w.Mark.Seq == 0:
			fmt.Fprintf(out, "  %s: remembers nothing yet\n", w.Node)
		case known && hash == w.Mark.Hash:
			fmt.Fprintf(out, "  %s: agrees, entry %d\n", w.Node, w.Mark.Seq)
		case !known && w.Mark.Seq < entries[0].Seq:
			fmt.Fprintf(out, "  %s: entry %d is no longer kept\n", w.Node, w.Mark.Seq)
		case !known:
			bad = append(bad, fmt.Sprintf("%s has seen entry %d, this ends at %d", w.Node, w.Mark.Seq, entries[len(entries)-1].Seq))
		default:
			bad = append(bad, fmt.Sprintf("%s remembers entry %d as %s, the log has %s", w.Node, w.Mark.Seq, w.Mark.Hash, hash))
		}
	}
	if len(bad) > 0 {
		return fmt.Errorf("%s:\n  %s", verdict, strings.Join(bad, "\n  "))
	}
	return nil
}

func readAudit(cmd *cobra.Command, file string) (out []control.AuditEntry, err error) {
	in := cmd.InOrStdin()
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxAuditLine)
	for n := 1; lines.Scan(); n++ {
		var e control.AuditEntry
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", file, n, err)
		}
		out = append(out, e)
	}
	return out, errors.Join(lines.Err())
}

func auditExportCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:     "export",
		Short:   "Write the whole log as JSON lines, as it was hashed; tern audit verify --file reads it",
		Example: "  tern audit export > audit.jsonl\n  tern audit export -o audit.jsonl",
		Args:    args(0, "no arguments"),
	}
	base := adminFlag(cmd)
	cmd.Flags().StringVarP(&file, "output", "o", "", "file; default standard output")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		entries, err := auditEntries(cmd.Context(), *base, 0)
		if err != nil {
			return err
		}
		var b strings.Builder
		for _, e := range entries {
			if err := printAudit(&b, e, true); err != nil {
				return err
			}
		}
		if file == "" {
			_, err = io.WriteString(cmd.OutOrStdout(), b.String())
			return err
		}
		return os.WriteFile(file, []byte(b.String()), 0o600)
	}
	return cmd
}
