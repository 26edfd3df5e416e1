package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// adminTimeout bounds one request to the admin API.
const adminTimeout = 30 * time.Second

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 32 << 20

// adminFlag adds --admin; the default is the address that the node's own environment names.
func adminFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("admin", cmp.Or(os.Getenv("TERN_ADMIN_LISTEN"), "127.0.0.1:7902"), "admin listener of a node (HOST:PORT or URL)")
}

// admin sends one request to a node's admin API and decodes the JSON answer into out.
func admin(ctx context.Context, base, method, path string, body []byte, out any) error {
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(base, "/")+path, bytes.NewReader(body))
	if err != nil {
		return usageError{fmt.Errorf("--admin %s: %w", base, err)}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("%w\nis a node running, and is %s its admin.listen? (--admin HOST:PORT names another)", err, base)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("reading the answer of %s: %w", base, err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		var refused struct{ Error string }
		if json.Unmarshal(answer, &refused) == nil && refused.Error != "" {
			return fmt.Errorf("%s", refused.Error)
		}
		return fmt.Errorf("%s answered %s", base, resp.Status)
	}
	return json.Unmarshal(answer, out)
}

// printJSON writes v as indented JSON.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
