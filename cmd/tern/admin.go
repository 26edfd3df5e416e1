package main

import (
	"bytes"
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

	"github.com/ternmesh/tern/node/gate"
)

// adminTimeout bounds one request to the admin API.
const adminTimeout = 30 * time.Second

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 32 << 20

const (
	// packagedSocket is where the packaged service opens its socket.
	packagedSocket = "/run/tern/admin.sock"
	// standardListen is the default of admin.listen.
	standardListen = "127.0.0.1:7902"
)

// adminFlag adds the flags that say which node to ask, and as whom.
func adminFlag(cmd *cobra.Command) *gate.Target {
	t := &gate.Target{}
	f := cmd.Flags()
	f.StringVar(&t.Address, "admin", defaultAdmin(), "a node's admin socket (path), listener (HOST:PORT) or URL; also TERN_ADMIN")
	f.StringVar(&t.TokenFile, "token-file", os.Getenv("TERN_ADMIN_TOKEN_FILE"), "file with an admin token, where it is not a socket; also TERN_ADMIN_TOKEN_FILE")
	f.StringVar(&t.CA, "admin-ca", os.Getenv("TERN_ADMIN_CA"), "the mesh's ca.crt, for HTTPS with a node's own certificate; also TERN_ADMIN_CA")
	f.StringVar(&t.Cert, "admin-cert", "", "admin certificate (tern ca admin), for HTTPS")
	f.StringVar(&t.Key, "admin-key", "", "its key")
	return t
}

// defaultAdmin is what the environment names, the client's variable before the node's own; else the packaged service's socket if
// there is one.
func defaultAdmin() string {
	if named := cmp.Or(os.Getenv("TERN_ADMIN"), os.Getenv("TERN_ADMIN_SOCKET"), os.Getenv("TERN_ADMIN_LISTEN")); named != "" {
		return named
	}
	if _, err := os.Stat(packagedSocket); err == nil {
		return packagedSocket
	}
	return standardListen
}

// admin sends one request to a node's admin API and decodes the JSON answer into out.
func admin(ctx context.Context, target gate.Target, method, path string, body []byte, out any) error {
	status, answer, err := ask(ctx, adminTimeout, target, method, path, body)
	if err != nil {
		return err
	}
	if status >= http.StatusMultipleChoices {
		var refused struct{ Error string }
		if json.Unmarshal(answer, &refused) == nil && refused.Error != "" {
			return refusedError{status, refused.Error}
		}
		return fmt.Errorf("%s answered %d %s", target.Address, status, http.StatusText(status))
	}
	return json.Unmarshal(answer, out)
}

// refusedError is a node's refusal in its own words.
type refusedError struct {
	status int // of HTTP
	text   string
}

func (e refusedError) Error() string { return e.text }

// ask sends one request to a node's admin listener and returns what it answers, at most maxAnswer bytes.
func ask(ctx context.Context, patience time.Duration, target gate.Target, method, path string, body []byte) (status int, answer []byte, err error) {
	client, base, err := target.Client()
	if err != nil {
		return 0, nil, usageError{err}
	}
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, base+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, usageError{fmt.Errorf("--admin %s: %w", target.Address, err)}
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, unreachable(target, err)
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return 0, nil, fmt.Errorf("reading the answer of %s: %w", target.Address, err)
	}
	return resp.StatusCode, answer, nil
}

// unreachable says what to look at when a node does not answer.
func unreachable(target gate.Target, err error) error {
	switch {
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w\n%s is for the node's own user and root: use sudo, or a token (--admin HOST:PORT --token-file FILE)", err, target.Address)
	case strings.Contains(target.Address, "/") && !strings.Contains(target.Address, "://"):
		return fmt.Errorf("%w\nis a node running, and is %s its admin.socket (DATA_DIR/admin.sock unless configured)?", err, target.Address)
	}
	return fmt.Errorf("%w\nis a node running, and is %s its admin.listen? (--admin names another, or the path of its socket)", err, target.Address)
}

// printJSON writes v as indented JSON.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
