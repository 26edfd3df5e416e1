package demo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/ternmesh/tern/sim"
	"github.com/ternmesh/tern/sim/demo/clip"
	"github.com/ternmesh/tern/sim/demo/page"
)

const (
	testChannel = "test"
	// maxEvents bounds the log; the oldest go first.
	maxEvents = 200
	// stageInterval is how often the nodes are asked what they see.
	stageInterval = 500 * time.Millisecond
)

// stage is the mesh as the page sees it: it implements page.Mesh.
type stage struct {
	cluster *cluster
	clients clients

	acting sync.Mutex // one action at a time

	mu     sync.Mutex // guards everything below
	flows  *flows
	now    []page.Flow
	events []page.Event
	loss   float64            // of every path: normalLoss, or what a button or a test wants
	cut    map[[2]string]bool // direct links that are down, both directions listed
	test   string             // city of the test stream, "" while off
	end    context.CancelFunc // ends the test stream
	ended  chan struct{}      // closed when it has ended
}

func newStage(c *cluster, clients clients) *stage {
	return &stage{cluster: c, clients: clients, flows: newFlows(), now: []page.Flow{}, events: []page.Event{}, loss: normalLoss, cut: make(map[[2]string]bool)}
}

// run looks at the mesh until ctx ends.
func (s *stage) run(ctx context.Context) error {
	tick := time.NewTicker(stageInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case at := <-tick.C:
			statuses := s.cluster.statuses()
			s.mu.Lock()
			s.now = s.flows.observe(at, statuses)
			s.shape()
			s.mu.Unlock()
		}
	}
}

// shape puts the wished-for faults on the links. Losing on every path means: on the links at the viewer's end, since each path
// has exactly one of them. While nobody watches, all links lose. Called with mu held.
func (s *stage) shape() {
	ends := make(map[string]bool)
	for _, f := range s.now {
		ends[f.To] = true
	}
	for _, from := range cities {
		for _, to := range cities {
			if from.node == to.node {
				continue
			}
			loss := normalLoss
			if len(ends) == 0 || ends[from.node] || ends[to.node] {
				loss = s.loss
			}
			s.cluster.net.UpdateLink(from.node, to.node, func(l *sim.Link) {
				l.Loss = loss
				l.Down = s.cut[[2]string{from.node, to.node}]
			})
		}
	}
}

// State implements page.Mesh.
func (s *stage) State() page.State {
	living := s.cluster.living()
	out := page.State{Suggest: page.Suggest{Publish: publishAt, Watch: watchAt}}
	for _, c := range cities {
		p := page.City{Node: c.node, City: c.name, Region: c.region, Lat: c.lat, Lon: c.lon, Voter: c.voter}
		if n := living[c.node]; n != nil {
			p.Alive, p.AccessURL = true, n.AccessURL()
		}
		out.Cities = append(out.Cities, p)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out.Flows, out.Lossy, out.TestCity = s.now, s.loss == lossyLoss, s.test
	out.Events = append([]page.Event{}, s.events...)
	return out
}

// Session implements page.Mesh.
func (s *stage) Session() (page.Session, error) {
	t, err := s.cluster.ground.token()
	return page.Session{App: appID, Token: t}, err
}

// Act implements page.Mesh.
func (s *stage) Act(ctx context.Context, a page.Action) error {
	s.acting.Lock()
	defer s.acting.Unlock()
	switch a.Do {
	case page.Lose:
		s.setLoss(lossyLoss)
		return nil
	case page.StopLosing:
		s.setLoss(normalLoss)
		return nil
	case page.KillRelay:
		return s.killRelay(a.From, a.To)
	case page.KillDirect:
		return s.killDirect(a.From, a.To)
	case page.Heal:
		return s.heal(ctx)
	case page.TestStart:
		return s.startTest(ctx, a.City)
	case page.TestStop:
		return s.stopTest()
	default:
		return fmt.Errorf("unknown action %q", a.Do)
	}
}

func (s *stage) log(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, page.Event{At: time.Now(), Text: fmt.Sprintf(format, args...)})
	if len(s.events) > maxEvents {
		s.events = s.events[len(s.events)-maxEvents:]
	}
}

// setLoss sets the share of packets that every path loses, each packet on its own.
func (s *stage) setLoss(loss float64) {
	s.mu.Lock()
	s.loss = loss
	s.shape()
	s.mu.Unlock()
	if loss > normalLoss {
		s.log("Every path loses %g %%", 100*loss)
	} else {
		s.log("Loss is back to 0.1 %% a link")
	}
}

// flow finds the traffic between two cities.
func (s *stage) flow(from, to string) (page.Flow, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.now {
		if f.From == from && f.To == to {
			return f, nil
		}
	}
	return page.Flow{}, errors.New("no stream crosses the mesh between these cities now")
}

func (s *stage) killRelay(from, to string) error {
	f, err := s.flow(from, to)
	if err != nil {
		return err
	}
	relay, ok := relayInUse(f)
	if !ok {
		return errors.New("no path in use has a relay now")
	}
	if err := s.cluster.kill(relay); err != nil {
		return err
	}
	s.log("%s was killed: a relay from %s to %s", cityName(relay), cityName(from), cityName(to))
	s.mu.Lock()
	stopped := s.test == relay
	s.mu.Unlock()
	if stopped {
		return s.stopTest()
	}
	return nil
}

func (s *stage) killDirect(from, to string) error {
	if _, err := s.flow(from, to); err != nil {
		return err
	}
	s.mu.Lock()
	s.cut[[2]string{from, to}], s.cut[[2]string{to, from}] = true, true
	s.shape()
	s.mu.Unlock()
	s.log("The direct link between %s and %s was cut", cityName(from), cityName(to))
	return nil
}

// heal revives nodes and links. It does not hang on the request: a reader who leaves must not leave half a mesh.
func (s *stage) heal(ctx context.Context) error {
	s.mu.Lock()
	s.loss = normalLoss
	clear(s.cut)
	s.shape()
	s.mu.Unlock()
	revived, err := s.cluster.revive(context.WithoutCancel(ctx))
	if err != nil {
		return err
	}
	for i, node := range revived {
		revived[i] = cityName(node)
	}
	if len(revived) > 0 {
		s.log("%s restarted; all links are whole", strings.Join(revived, ", "))
	} else {
		s.log("All links are whole")
	}
	return nil
}

// startTest publishes the test stream at a city, by WHIP like everybody.
func (s *stage) startTest(ctx context.Context, node string) error {
	if err := s.stopTest(); err != nil {
		return err
	}
	base, err := s.cluster.accessURL(node)
	if err != nil {
		return err
	}
	loop, err := clip.Load()
	if err != nil {
		return err
	}
	entry, err := s.Session()
	if err != nil {
		return err
	}
	// The session outlives the request that started it.
	pub, err := s.clients.Publish(context.WithoutCancel(ctx), whip(base, testChannel), entry.Token, &testStream{clip: loop})
	if err != nil {
		return fmt.Errorf("publish at %s: %w", cityName(node), err)
	}
	life, cancel := context.WithCancel(s.cluster.ctx)
	ended := make(chan struct{})
	s.mu.Lock()
	s.test, s.end, s.ended = node, cancel, ended
	s.mu.Unlock()
	s.log("The test stream enters at %s", cityName(node))
	s.cluster.group.Go(func() error {
		defer close(ended)
		select {
		case <-life.Done():
		case <-pub.Done():
			s.log("The test stream broke off")
		}
		closing(s.cluster.log, "test stream", pub)
		return nil
	})
	return nil
}

func (s *stage) stopTest() error {
	s.mu.Lock()
	node, end, ended := s.test, s.end, s.ended
	s.test, s.end, s.ended = "", nil, nil
	s.mu.Unlock()
	if end == nil {
		return nil
	}
	end()
	<-ended
	s.log("The test stream at %s ended", cityName(node))
	return nil
}
