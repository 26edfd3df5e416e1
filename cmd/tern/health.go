package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/ternmesh/tern/node/gate"
)

// healthTimeout is what a probe waits for an answer.
const healthTimeout = 3 * time.Second

func healthCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "health live|ready",
		Short: "Ask a node's /livez or /readyz; for probes in places without curl, such as an empty container image",
		Long: `live: the process answers; a node that does not is to be restarted. ready: clients should be sent here; a node that is
draining or has no policy is not ready, and must not be restarted for it. Ends with status 1 if the answer is no.`,
		Example:   "  tern health ready --admin 127.0.0.1:7902",
		Args:      args(1, "live or ready"),
		ValidArgs: []string{"live", "ready"},
	}
	base := adminFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, got []string) error {
		if got[0] != "live" && got[0] != "ready" {
			return usageError{fmt.Errorf("%q is neither live nor ready", got[0])}
		}
		return health(cmd.Context(), *base, got[0]+"z", cmd.OutOrStdout())
	}
	return cmd
}

// health asks one of the two questions; they need no proof of who asks.
func health(ctx context.Context, target gate.Target, question string, w io.Writer) error {
	status, said, err := ask(ctx, healthTimeout, target, http.MethodGet, "/"+question, nil)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("no: %s", bytes.TrimSpace(said))
	}
	fmt.Fprintf(w, "%s\n", bytes.TrimSpace(said))
	return nil
}
