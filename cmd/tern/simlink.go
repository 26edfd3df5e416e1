package main

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/ternmesh/tern/sim"
	"github.com/ternmesh/tern/sim/link"
	"github.com/ternmesh/tern/sim/run/scenario"
)

// simLinkCommand carries real packets of this machine through one emulated link.
func simLinkCommand() *cobra.Command {
	var listen, to, web, upstream, out, back string
	var seed uint64
	c := &cobra.Command{
		Use:   "link",
		Short: "Carry real UDP and WebRTC of this machine through an emulated link",
		Long: "Carry real UDP and WebRTC of this machine through an emulated link: put a browser, ffmpeg or a server behind a bad last mile.\n\n" +
			"--listen and --to carry UDP as it comes. --http and --upstream carry WHIP and WHEP: publish to and watch at the proxy instead of the\n" +
			"server, and its ICE candidates are mapped to ports that lead through the link.\n\n" +
			"--out and --back take what a link takes in a scenario file (docs/simulator.md), towards the server and from it; --back is --out if left out.",
		Example: "  tern sim link --http 127.0.0.1:8090 --upstream http://127.0.0.1:8080 --out '{delay: 40ms, jitter: 5ms, loss: {profile: wifi}}'\n" +
			"  tern sim link --listen 127.0.0.1:5004 --to 127.0.0.1:5006 --out '{delay: 80ms, loss: 2%, rate: 5Mbit, queue: 100ms}' --back '{delay: 80ms}'",
		Args: args(0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("back") {
				back = out
			}
			cfg, err := linkConfig(listen, to, web, upstream, out, back)
			if err != nil {
				return usageError{err}
			}
			if cfg.Seed = seed; seed == 0 {
				cfg.Seed = uint64(time.Now().UnixNano())
			}
			l, err := link.New(cfg)
			if err != nil {
				return usageError{err}
			}
			err = l.Run(cmd.Context(), func(udp netip.AddrPort, http string) {
				if udp.IsValid() {
					fmt.Fprintf(cmd.OutOrStdout(), "UDP to %v goes to %v through the link\n", udp, cfg.To)
				}
				if http != "" {
					fmt.Fprintf(cmd.OutOrStdout(), "WHIP and WHEP at http://%s go to %v, and their media through the link\n", http, cfg.Upstream)
				}
				fmt.Fprintln(cmd.OutOrStdout(), "Ctrl-C ends it.")
			})
			a, b, refused := l.Stats()
			fmt.Fprint(cmd.OutOrStdout(), linkLine("out", a), linkLine("back", b))
			if refused > 0 {
				fmt.Fprintf(cmd.OutOrStdout(), "%d packets of sources beyond the bound were refused\n", refused)
			}
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&listen, "listen", "", "UDP address to carry from (HOST:PORT; port 0 takes a free one)")
	f.StringVar(&to, "to", "", "UDP address to carry to")
	f.StringVar(&web, "http", "", "address of the WHIP and WHEP proxy")
	f.StringVar(&upstream, "upstream", "", "URL of the WHIP and WHEP server")
	f.StringVar(&out, "out", "{}", "the link towards the server")
	f.StringVar(&back, "back", "", "the link from the server (default: as --out)")
	f.Uint64Var(&seed, "seed", 0, "seed of the emulation (0: another each time)")
	return c
}

// linkConfig reads the flags; the error names all that are wrong.
func linkConfig(listen, to, web, upstream, out, back string) (cfg link.Config, err error) {
	var errs []error
	cfg.HTTP = web
	for _, f := range []struct {
		name, value string
		into        *netip.AddrPort
	}{{"listen", listen, &cfg.Listen}, {"to", to, &cfg.To}} {
		if f.value == "" {
			continue
		}
		if *f.into, err = netip.ParseAddrPort(f.value); err != nil {
			errs = append(errs, fmt.Errorf("--%s: %q is not ADDRESS:PORT, for example 127.0.0.1:5004", f.name, f.value))
		}
	}
	if upstream != "" {
		if cfg.Upstream, err = url.Parse(upstream); err != nil {
			errs = append(errs, fmt.Errorf("--upstream: %w", err))
		}
	}
	for _, f := range []struct {
		name, value string
		into        *sim.Link
	}{{"out", out, &cfg.Out}, {"back", back, &cfg.Back}} {
		if *f.into, err = scenario.ParseLink(f.value); err != nil {
			errs = append(errs, fmt.Errorf("--%s: %w", f.name, err))
		}
	}
	return cfg, errors.Join(errs...)
}

func linkLine(way string, s sim.LinkStats) string {
	return fmt.Sprintf("%-5s %d packets, %d bytes: %d delivered, %d lost, %d dropped by the queue, %d too large\n",
		way, s.Sent, s.Bytes, s.Delivered, s.Lost, s.QueueDrops, s.Oversize)
}
