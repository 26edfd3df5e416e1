package link

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ternmesh/tern/sim"
)

// maxTunnels bounds the addresses that a proxy maps: each is a port of this machine.
const maxTunnels = 256

// Config of a link. Listen with To, or HTTP with Upstream, or both pairs.
type Config struct {
	Out, Back sim.Link       // towards the server, and from it
	Seed      uint64         // of the emulation's draws
	Listen    netip.AddrPort // UDP of programs; port 0 takes a free one
	To        netip.AddrPort // where it goes
	HTTP      string         // address of the WHIP and WHEP proxy
	Upstream  *url.URL       // the server behind it
	Logger    *slog.Logger   // nil: no log
}

// Link is an emulated link between real ports. Make one with New; Run it once.
type Link struct {
	cfg  Config
	net  *sim.Network
	near *sim.Host // the programs' end
	far  *sim.Host // the server's end

	mu      sync.Mutex // guards everything below
	spawn   func(func() error)
	ctx     context.Context // of Run
	tunnels map[netip.AddrPort]*tunnel
	refused uint64 // packets of flows above the bound
}

// Addresses of the ends within the emulation.
var (
	nearAddr = netip.AddrFrom4([4]byte{10, 0, 0, 1})
	farAddr  = netip.AddrFrom4([4]byte{10, 0, 0, 2})
)

// New validates; it opens nothing.
func New(cfg Config) (*Link, error) {
	var errs []error
	if cfg.Listen.IsValid() != cfg.To.IsValid() {
		errs = append(errs, errors.New("listen and to belong together: where UDP comes in, and where it goes"))
	}
	if (cfg.HTTP == "") != (cfg.Upstream == nil) {
		errs = append(errs, errors.New("http and upstream belong together: where WHIP and WHEP come in, and where they go"))
	}
	if u := cfg.Upstream; u != nil && (u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
		errs = append(errs, fmt.Errorf("upstream: %q is not an http or https URL", u))
	}
	if !cfg.Listen.IsValid() && cfg.HTTP == "" {
		errs = append(errs, errors.New("nothing to carry: give listen and to, or http and upstream"))
	}
	errs = append(errs, cfg.Out.Validate(), cfg.Back.Validate())
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	l := &Link{cfg: cfg, net: sim.New(cfg.Seed), tunnels: make(map[netip.AddrPort]*tunnel)}
	l.near, l.far = l.net.Host("near", nearAddr), l.net.Host("far", farAddr)
	l.net.SetLink("near", "far", cfg.Out)
	l.net.SetLink("far", "near", cfg.Back)
	return l, nil
}

// Set changes both directions from now on; what is under way arrives as it would have. Safe for concurrent use.
func (l *Link) Set(out, back sim.Link) {
	l.net.SetLink("near", "far", out)
	l.net.SetLink("far", "near", back)
}

// Stats of both directions; refused counts packets of flows beyond the bound.
func (l *Link) Stats() (out, back sim.LinkStats, refused uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.net.LinkStats("near", "far"), l.net.LinkStats("far", "near"), l.refused
}

// Run carries until ctx ends. ready, if not nil, is told the addresses once everything is open; the UDP one is invalid without
// Config.Listen, the HTTP one is "" without Config.HTTP.
func (l *Link) Run(ctx context.Context, ready func(udp netip.AddrPort, http string)) error {
	group, ctx := errgroup.WithContext(ctx)
	l.mu.Lock()
	l.ctx, l.spawn = ctx, group.Go
	l.mu.Unlock()
	defer l.net.Close()
	var at netip.AddrPort
	if l.cfg.Listen.IsValid() {
		var err error
		if at, err = l.tunnel(l.cfg.Listen, l.cfg.To); err != nil {
			return err
		}
	}
	web := ""
	if l.cfg.HTTP != "" {
		ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", l.cfg.HTTP)
		if err != nil {
			return fmt.Errorf("the proxy: %w", err)
		}
		web = ln.Addr().String()
		server := &http.Server{Handler: l.proxy(), ReadHeaderTimeout: 5 * time.Second}
		context.AfterFunc(ctx, func() { _ = server.Close() })
		group.Go(func() error {
			if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("the proxy: %w", err)
			}
			return nil
		})
	}
	if ready != nil {
		ready(at, web)
	}
	group.Go(func() error { <-ctx.Done(); return nil })
	return group.Wait()
}

// tunnel returns the port that leads to a real address through the link, made on first use.
func (l *Link) tunnel(listen, to netip.AddrPort) (netip.AddrPort, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.tunnels[to]; t != nil {
		return t.at, nil
	}
	if len(l.tunnels) >= maxTunnels {
		return netip.AddrPort{}, fmt.Errorf("%d addresses are mapped already", maxTunnels)
	}
	t, err := newTunnel(l, listen, to)
	if err != nil {
		return netip.AddrPort{}, err
	}
	l.tunnels[to] = t
	ctx := l.ctx
	l.spawn(func() error { return t.run(ctx) })
	l.cfg.Logger.Info("port mapped", "listen", t.at, "to", to)
	return t.at, nil
}
