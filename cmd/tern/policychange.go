package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ternmesh/tern/control"
	"github.com/ternmesh/tern/node"
	"github.com/ternmesh/tern/node/gate"
)

// waitStep is how often --wait asks who enforces.
const waitStep = 250 * time.Millisecond

// maxStrandedShown bounds what people see of the apps that a change takes away.
const maxStrandedShown = 20

// change is how a change of the policy is made and reported, for apply, diff and rollback.
type change struct {
	base      *gate.Target
	ifVersion int64
	force     bool
	dryRun    bool
	wait      bool
	timeout   time.Duration
	asJSON    bool
	action    string
}

// flags adds those that apply and rollback share.
func (c *change) flags(cmd *cobra.Command) {
	c.base = adminFlag(cmd)
	cmd.Flags().Int64Var(&c.ifVersion, "if-version", -1, "refuse if the policy is no longer at this version")
	cmd.Flags().BoolVar(&c.force, "force", false, "also if apps that exist lose their place, or the blocklist covers every member or the operator")
	cmd.Flags().BoolVar(&c.dryRun, "dry-run", false, "judge the document against the mesh, change nothing")
	cmd.Flags().BoolVar(&c.wait, "wait", false, "wait until every live node enforces it; fail and say who lags otherwise")
	cmd.Flags().DurationVar(&c.timeout, "timeout", 30*time.Second, "how long --wait waits")
	cmd.Flags().BoolVar(&c.asJSON, "json", false, "print JSON")
}

// changeReport is what --json prints.
type changeReport struct {
	control.Outcome
	Enforcers []control.Enforcer `json:"enforcers,omitempty"`
}

// make applies doc and reports.
func (c *change) make(ctx context.Context, out io.Writer, doc []byte) error {
	q := url.Values{}
	if c.ifVersion >= 0 {
		q.Set("if_version", strconv.FormatInt(c.ifVersion, 10))
	}
	for key, on := range map[string]bool{"force": c.force, "dry_run": c.dryRun} {
		if on {
			q.Set(key, "1")
		}
	}
	if c.action != "" {
		q.Set("action", c.action)
	}
	own, _ := operatorAddrs(nil, os.Getenv("SSH_CONNECTION")) // a value that names no address names no operator
	for _, a := range own {
		q.Add("own", a.String())
	}
	report := changeReport{}
	put := func(doc []byte) error {
		return admin(ctx, *c.base, http.MethodPut, "/v1/policy?"+q.Encode(), doc, &report.Outcome)
	}
	short := compact(doc)
	err := put(short)
	var refused refusedError
	if errors.As(err, &refused) && refused.status == http.StatusUnprocessableEntity && !bytes.Equal(short, doc) {
		err = put(doc) // what is wrong with it is said by its own lines
	}
	if err != nil {
		return err
	}
	if !c.asJSON {
		c.summary(out, report.Outcome)
	}
	var lag error
	if !c.dryRun {
		report.Enforcers, lag = c.enforced(ctx, report.Version)
		if !c.asJSON {
			printEnforcers(out, report.Version, report.Enforcers)
		}
	}
	if c.asJSON {
		if err := printJSON(out, report); err != nil {
			return err
		}
	}
	return lag
}

// compact spares the node the reading of YAML, which of a large document takes more time and memory than all the rest of a change.
// A document that cannot be read here goes as it is, and one that the node refuses goes again as it is: it says by which lines.
func compact(doc []byte) []byte {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // a moment's garbage, in a process of a moment: a fifth less time
	p, err := control.Parse(doc)
	if err != nil {
		return doc
	}
	if short, err := control.EncodePolicy(p); err == nil && len(short) <= control.MaxDocumentBytes {
		return short
	}
	return doc
}

func (c *change) summary(out io.Writer, o control.Outcome) {
	if o.DryRun {
		fmt.Fprintf(out, "dry run: version %d would become version %d: %s\n", o.Base, o.Version, howMany(o.Changes))
	} else {
		fmt.Fprintf(out, "policy version %d applied (was %d): %s\n", o.Version, o.Base, howMany(o.Changes))
	}
	for _, d := range o.Changes {
		fmt.Fprintf(out, "  %s\n", d)
	}
	for _, s := range o.Stranded[:min(len(o.Stranded), maxStrandedShown)] {
		fmt.Fprintf(out, "  ! %s\n", s)
	}
	if more := len(o.Stranded) - maxStrandedShown; more > 0 {
		fmt.Fprintf(out, "  ! and %d more (--json has all)\n", more)
	}
	if o.DryRun && len(o.Stranded) > 0 {
		fmt.Fprintln(out, "it would be refused without --force")
	}
}

// howMany counts differences in words; control.Diff names the first 200, and one more line says how many follow.
func howMany(d []control.Difference) string {
	switch n := len(d); {
	case n == 0:
		return "no change"
	case n == 1:
		return "1 change"
	case d[n-1].Path == "...":
		return fmt.Sprintf("more than %d changes", n-1)
	default:
		return fmt.Sprintf("%d changes", n)
	}
}

// enforced asks who enforces the version: once, or until all live nodes do.
func (c *change) enforced(ctx context.Context, version uint64) ([]control.Enforcer, error) {
	deadline := time.Now().Add(c.timeout)
	for {
		var list []control.Enforcer
		if err := admin(ctx, *c.base, http.MethodGet, "/v1/policy/enforcers", nil, &list); err != nil {
			return nil, err
		}
		late := lagging(list, version)
		if !c.wait || len(late) == 0 {
			return list, nil
		}
		if time.Now().After(deadline) {
			return list, quietError{errors.New("not enforced everywhere")}
		}
		select {
		case <-ctx.Done():
			return list, ctx.Err()
		case <-time.After(waitStep):
		}
	}
}

// lagging lists the live nodes that do not enforce the version.
func lagging(list []control.Enforcer, version uint64) (out []string) {
	for _, e := range list {
		if e.Alive && e.Version < version {
			out = append(out, e.Node)
		}
	}
	return out
}

func printEnforcers(out io.Writer, version uint64, list []control.Enforcer) {
	var yes []string
	live := 0
	for _, e := range list {
		if e.Alive {
			live++
		}
		if e.Version >= version && e.Error == "" {
			yes = append(yes, e.Node)
		}
	}
	fmt.Fprintf(out, "enforced now by %d of %d live nodes: %s\n", len(yes), live, orNone(strings.Join(yes, ", ")))
	for _, e := range list {
		if e.Version >= version && e.Error == "" {
			continue
		}
		fmt.Fprintf(out, "  not yet by %s (%s): version %d", e.Node, e.Region, e.Version)
		for _, why := range []string{e.Trouble, e.Error} {
			if why != "" {
				fmt.Fprintf(out, "; %s", why)
			}
		}
		fmt.Fprintln(out)
	}
}

func policyApplyCommand() *cobra.Command {
	var file string
	c := &change{}
	cmd := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Replace the policy as a whole, atomically, and say which nodes enforce it",
		Long: "The document is refused whole, with every problem and its line, or comes into force whole. It is also refused if apps that\n" +
			"exist would be removed or left without a live node, or if its blocklist covers every member or the operator's own address\n" +
			"(where the request or this SSH session comes from), unless --force is given. Sections nodes, revoked and admins that the\n" +
			"document leaves out stay as they are.",
		Example: "  tern policy apply -f policy.yaml --wait\n  tern policy apply -f policy.yaml --if-version 7\n  tern policy apply -f policy.yaml --dry-run",
		Args:    args(0, "no arguments"),
	}
	c.flags(cmd)
	cmd.Flags().StringVarP(&file, "file", "f", "", "policy document (YAML or JSON), - for standard input")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		doc, err := readInput(cmd, file)
		if err != nil {
			return err
		}
		return c.make(cmd.Context(), cmd.OutOrStdout(), doc)
	}
	return cmd
}

func policyDiffCommand() *cobra.Command {
	var file string
	c := &change{dryRun: true, ifVersion: -1}
	cmd := &cobra.Command{
		Use:     "diff -f FILE",
		Short:   "Print what a document would change; nothing is changed",
		Example: "  tern policy diff -f policy.yaml",
		Args:    args(0, "no arguments"),
	}
	c.base = adminFlag(cmd)
	cmd.Flags().StringVarP(&file, "file", "f", "", "policy document (YAML or JSON), - for standard input")
	cmd.Flags().BoolVar(&c.asJSON, "json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		doc, err := readInput(cmd, file)
		if err != nil {
			return err
		}
		return c.make(cmd.Context(), cmd.OutOrStdout(), doc)
	}
	return cmd
}

func policyRollbackCommand() *cobra.Command {
	c := &change{}
	cmd := &cobra.Command{
		Use:     "rollback VERSION",
		Short:   "Make a version of the history the policy again, as a new version",
		Long:    "Node states, revocations and admin tokens stay as they are now: going back must not readmit what was shut out.",
		Example: "  tern policy history\n  tern policy rollback 6 --dry-run\n  tern policy rollback 6 --wait",
		Args:    args(1, "one VERSION of tern policy history"),
	}
	c.flags(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		version, err := strconv.ParseUint(a[0], 10, 64)
		if err != nil {
			return usageError{fmt.Errorf("%q is not a version", a[0])}
		}
		var old node.PolicyDocument
		if err := admin(cmd.Context(), *c.base, http.MethodGet, fmt.Sprintf("/v1/policy?version=%d", version), nil, &old); err != nil {
			return err
		}
		// The sections that stay as they are: see carry-over in package control.
		old.Policy.Nodes, old.Policy.Revoked, old.Policy.Admins = nil, nil, nil
		doc, err := json.Marshal(old.Policy)
		if err != nil {
			return err
		}
		c.action = fmt.Sprintf("policy rollback to version %d", version)
		return c.make(cmd.Context(), cmd.OutOrStdout(), doc)
	}
	return cmd
}

func policyExplainCommand() *cobra.Command {
	var file, app, from, to string
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "explain --app X --from R1 --to R2",
		Short:   "Say whether an app's media may go from one region to another, and by which line of the policy",
		Long:    "Without -f, lines are those of tern policy get at the node that is asked. Exit status 1 means forbidden.",
		Example: "  tern policy explain --app demo --from eu --to us\n  tern policy explain --app demo --from eu --to us -f policy.yaml",
		Args:    args(0, "no arguments"),
	}
	base := adminFlag(cmd)
	cmd.Flags().StringVar(&app, "app", "", "the app's id")
	cmd.Flags().StringVar(&from, "from", "", "the region where media enters")
	cmd.Flags().StringVar(&to, "to", "", "the region where media leaves; empty: the same")
	cmd.Flags().StringVarP(&file, "file", "f", "", "a document to ask instead of a node, - for standard input")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if app == "" || from == "" {
			return usageError{errors.New("--app and --from are needed")}
		}
		if to == "" {
			to = from
		}
		e, err := explain(cmd, *base, file, app, from, to)
		if err != nil {
			return err
		}
		if asJSON {
			err = printJSON(cmd.OutOrStdout(), e)
		} else {
			fmt.Fprint(cmd.OutOrStdout(), e)
		}
		if err == nil && !e.Allowed {
			err = quietError{errors.New("forbidden")}
		}
		return err
	}
	return cmd
}

func explain(cmd *cobra.Command, base gate.Target, file, app, from, to string) (e control.Explanation, err error) {
	if file == "" {
		q := url.Values{"app": {app}, "from": {from}, "to": {to}}
		return e, admin(cmd.Context(), base, http.MethodGet, "/v1/policy/explain?"+q.Encode(), nil, &e)
	}
	doc, err := readInput(cmd, file)
	if err != nil {
		return e, err
	}
	return control.Explain(doc, app, from, to)
}

// readInput reads a policy document. Of a file that is none (a disk, a video) it reads no more than shows that.
func readInput(cmd *cobra.Command, file string) ([]byte, error) {
	in := cmd.InOrStdin()
	switch file {
	case "":
		return nil, usageError{fmt.Errorf("-f FILE is needed (- for standard input)")}
	case "-":
		file = "standard input"
	default:
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	doc, err := io.ReadAll(io.LimitReader(in, control.MaxDocumentBytes+1))
	if err == nil && len(doc) > control.MaxDocumentBytes {
		err = fmt.Errorf("%s is no policy: it is longer than the %d bytes that are allowed", file, control.MaxDocumentBytes)
	}
	return doc, err
}
