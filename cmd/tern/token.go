package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"sort"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ternmesh/tern/node/access/token"
)

func tokenCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "token", Short: "Make and examine access tokens"}
	cmd.AddCommand(tokenCreateCommand(), tokenInspectCommand())
	return cmd
}

// certificateFlags are the two ways to name an app's certificate; a file keeps it out of the process list.
type certificateFlags struct{ certificate, keyFile string }

func (f *certificateFlags) add(cmd *cobra.Command, file string) {
	cmd.Flags().StringVar(&f.certificate, "certificate", "", "the app's certificate; seen by everybody who can list processes")
	cmd.Flags().StringVar(&f.keyFile, "key-file", "", file)
}

// read returns the certificate, or the bytes of a file that holds keys (PEM or JWKS) instead; both empty if neither
// flag was given.
func (f *certificateFlags) read() (certificate string, keys []byte, err error) {
	if f.certificate != "" && f.keyFile != "" {
		return "", nil, usageError{errors.New("--certificate and --key-file exclude each other")}
	}
	if f.keyFile == "" {
		return f.certificate, nil, nil
	}
	b, err := os.ReadFile(f.keyFile)
	b = bytes.TrimSpace(b)
	switch {
	case err != nil:
		return "", nil, err
	case bytes.HasPrefix(b, []byte("-----BEGIN ")) || bytes.HasPrefix(b, []byte("{")):
		return "", b, nil
	case len(b) == 0:
		return "", nil, fmt.Errorf("%s is empty: it should hold the app's certificate, or keys as PEM or JWKS", f.keyFile)
	}
	return string(b), nil, nil
}

// text reads the flags where a file holds plain text and nothing else.
func (f *certificateFlags) text() (string, error) {
	s, keys, err := f.read()
	return s + string(keys), err
}

func tokenCreateCommand() *cobra.Command {
	var key certificateFlags
	o := token.CreateOptions{}
	cmd := &cobra.Command{
		Use:   "create --app-id ID --channel NAME",
		Short: "Print a token",
		Example: "  tern token create --app-id demo --key-file demo.cert --channel stage --can publish_audio,publish_video\n" +
			"  tern token create --format 007 --app-id 970CA35de60c44645bbae8a215061b33 --key-file app.cert --channel stage\n" +
			"  tern token create --app-id demo --key-file ed25519.pem --key-id 2026-11 --channel stage",
		Args: args(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := needed(cmd, "app-id", "channel"); err != nil {
				return err
			}
			certificate, pem, err := key.read()
			if err != nil {
				return err
			}
			if o.Certificate = certificate; pem != nil {
				if o.Signer, err = token.ParseSigner(pem); err != nil {
					return fmt.Errorf("%s: %w", key.keyFile, err)
				}
			}
			if o.Session != "" && o.ID == "" {
				o.ID = rand.Text()
			}
			o.Now = time.Now()
			t, err := token.Create(o)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), t)
			return nil
		},
	}
	key.add(cmd, "file with the app's certificate, alone on its line, or with a private key (PEM: P-256 or Ed25519)")
	cmd.Flags().StringVar(&o.Format, "format", token.FormatJWT, strings.Join(token.Formats(), ", "))
	cmd.Flags().StringVar(&o.App, "app-id", "", "app id; for livekit the API key")
	cmd.Flags().StringVar(&o.KeyID, "key-id", "", "name of the private key in the app's key set")
	cmd.Flags().StringVar(&o.Channel, "channel", "", "channel, * for all (tern)")
	cmd.Flags().StringVar(&o.User, "user", "", "user, empty for anybody")
	cmd.Flags().StringVar(&o.Session, "session", "", "make a room token for this session: used once, 5m to 15m")
	cmd.Flags().StringVar(&o.ID, "id", "", "the room token's own name; random if empty")
	cmd.Flags().DurationVar(&o.TTL, "ttl", time.Hour, "how long it is good, at most 24h")
	cmd.Flags().StringSliceVar(&o.Can, "can", []string{token.CanSubscribe}, "publish_audio, publish_video, publish_data, subscribe")
	return cmd
}

func tokenInspectCommand() *cobra.Command {
	var key certificateFlags
	var at int64
	var asJSON bool
	o := token.InspectOptions{}
	cmd := &cobra.Command{
		Use:     "inspect TOKEN",
		Example: "  tern token inspect --app-id demo --key-file demo.cert --channel stage \"$token\"",
		Short:   "Say what a token grants, or why it would be refused; status 0 only if it is admitted",
		Args:    args(1, "TOKEN"),
		RunE: func(cmd *cobra.Command, tokens []string) error {
			certificate, keys, err := key.read()
			if err != nil {
				return err
			}
			if certificate != "" {
				o.Certificates = []string{certificate}
			}
			if keys != nil {
				if o.Keys, err = token.ParsePublicKeys(keys); err != nil {
					return fmt.Errorf("%s: %w", key.keyFile, err)
				}
			}
			o.Now = time.Now()
			if cmd.Flags().Changed("at") {
				o.Now = time.Unix(at, 0)
			}
			r := token.Inspect(tokens[0], o)
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), r)
			} else {
				err = printReport(cmd, r)
			}
			if err == nil && !r.Admitted {
				return quietError{errors.New("not admitted")}
			}
			return err
		},
	}
	key.add(cmd, "file with the app's certificate, alone on its line, or with public keys (PEM or JWKS)")
	cmd.Flags().StringVar(&o.App, "app-id", "", "app id that the token must be for")
	cmd.Flags().StringSliceVar(&o.Issuers, "issuer", nil, "further names of the app in a JWT, such as LiveKit API keys")
	cmd.Flags().StringVar(&o.Channel, "channel", "", "channel that is entered")
	cmd.Flags().StringVar(&o.User, "user", "", "user who enters")
	cmd.Flags().BoolVar(&o.Room, "room", false, "the app takes room tokens only")
	cmd.Flags().Int64Var(&at, "at", 0, "judge at this Unix time instead of now")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printReport(cmd *cobra.Command, r token.Report) error {
	t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	verdict := "admitted"
	if !r.Admitted {
		verdict = "refused: " + string(r.Reason)
	}
	fmt.Fprintf(t, "verdict\t%s\nformat\t%s\napp\t%s\nchannel\t%s\nuser\t%s\n", verdict, r.Format, r.App, r.Channel, r.User)
	names := make([]string, 0, len(r.Grants))
	for g := range r.Grants {
		names = append(names, g)
	}
	sort.Strings(names)
	for _, g := range slices.Compact(names) {
		fmt.Fprintf(t, "  %s\tuntil %s\n", g, time.Unix(r.Grants[g], 0).UTC().Format(time.RFC3339))
	}
	return t.Flush()
}
