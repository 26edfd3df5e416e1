package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ternmesh/tern/sim"
	"github.com/ternmesh/tern/sim/demo/page"
)

// DefaultAddr is where the page listens.
const DefaultAddr = "127.0.0.1:7999"

// Options of a demonstration; the zero value shows the page at DefaultAddr.
type Options struct {
	// Headless publishes and watches without a browser, kills a relay midway, and ends after For.
	Headless bool
	// For is the length of a headless run after the viewer's first packet: 20 s if zero, at least 8 s.
	For time.Duration
	// Report names a file for the figures of a headless run (JSON); "" writes none.
	Report string
	// Addr is the address of the page, DefaultAddr if "". Whoever reaches it may break the emulated mesh.
	Addr string
	// Out is told where to look, or the figures. Default: standard output.
	Out io.Writer
	// Logger is the nodes'. Default: nothing is logged.
	Logger *slog.Logger
}

func (o *Options) defaults() error {
	if o.For == 0 {
		o.For = 20 * time.Second
	}
	if o.Addr == "" {
		o.Addr = DefaultAddr
	}
	if o.Out == nil {
		o.Out = os.Stdout
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Headless && o.For < minFor {
		return fmt.Errorf("demo: --for %v is too short: warm-up and end take %v, use at least %v", o.For, warmUp+quiet, minFor)
	}
	if !o.Headless && o.Report != "" {
		return errors.New("demo: --report needs --headless")
	}
	return nil
}

// Run shows the mesh until ctx ends, or for o.For if headless; then it returns an error if a packet was lost. Everything
// that it makes is in a temporary directory, which it removes.
func Run(ctx context.Context, o Options) error {
	if err := o.defaults(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "tern-demo-")
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	g, err := prepare(dir)
	if err != nil {
		return err
	}
	network := sim.New(uint64(time.Now().UnixNano()))
	defer network.Close()

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	group, inside := errgroup.WithContext(ctx)
	c := newCluster(inside, group, g, network, realNode, o.Logger)
	group.Go(func() error {
		defer stop() // the nodes end with the show
		fmt.Fprintf(o.Out, "Starting %d nodes ...\n", len(cities))
		began := time.Now()
		if err := c.form(inside); err != nil {
			return quietly(ctx, err)
		}
		fmt.Fprintf(o.Out, "The mesh formed in %.1f s.\n", time.Since(began).Seconds())
		if o.Headless {
			return runHeadless(inside, o, c)
		}
		return quietly(ctx, runPage(inside, o, c))
	})
	return group.Wait()
}

// quietly drops an error that only says that the person ended the demo.
func quietly(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func runHeadless(ctx context.Context, o Options, c *cluster) error {
	token, err := c.ground.token()
	if err != nil {
		return err
	}
	h := &headless{cluster: c, clients: realClients{}, token: token, length: o.For}
	r, err := h.run(ctx)
	if err != nil {
		return err
	}
	r.Print(o.Out)
	if o.Report != "" {
		if err := save(o.Report, r); err != nil {
			return err
		}
	}
	return r.Check(uint64(minPacketsPerSecond * (o.For - warmUp - quiet).Seconds()))
}

func runPage(ctx context.Context, o Options, c *cluster) error {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.Addr)
	if err != nil {
		return fmt.Errorf("demo: the page: %w (choose another address with --listen)", err)
	}
	s := newStage(c, realClients{})
	s.links(o.Out, ln.Addr())
	return s.show(ctx, ln)
}

// show serves the page on a listener, which it closes, and keeps the stage up to date until ctx ends.
func (s *stage) show(ctx context.Context, ln net.Listener) error {
	server := &http.Server{Handler: page.Handler(s), ReadHeaderTimeout: 5 * time.Second}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.run(ctx) })
	group.Go(func() error {
		if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("demo: the page: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		return server.Close()
	})
	return group.Wait()
}

// links prints what to open.
func (s *stage) links(w io.Writer, addr net.Addr) {
	fmt.Fprintf(w, "\nOpen  http://%s/\n\n", addr)
	for _, c := range cities {
		if url, err := s.cluster.accessURL(c.node); err == nil {
			fmt.Fprintf(w, "  %-10s %s  (WHIP %s, WHEP %s)\n", c.name, url, "/whip/"+appID+"/CHANNEL", "/whep/"+appID+"/CHANNEL")
		}
	}
	fmt.Fprintln(w, "\nPublish at one city, watch at another, then break things. Ctrl-C ends it.")
}
