package fanout

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/logging"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
)

// maxOffer bounds an offer, in bytes.
const maxOffer = 256 << 10

// A viewer waits at most trackWait for the tracks that a publisher has offered; a track is known with its first packet.
const (
	trackWait = 2 * time.Second
	trackPoll = 10 * time.Millisecond
)

// Server is an http.Handler. Make one with New.
type Server struct {
	api *webrtc.API
	mux *http.ServeMux

	mu       sync.Mutex // guards everything below
	streams  map[string]*live
	sessions map[string]*webrtc.PeerConnection
	next     int
}

// New makes a server whose sessions share one UDP socket, conn, which it takes over; nil gives each session its own.
func New(conn net.PacketConn) (*Server, error) {
	engine := new(webrtc.MediaEngine)
	if err := engine.RegisterDefaultCodecs(); err != nil {
		return nil, fmt.Errorf("register codecs: %w", err)
	}
	chain := new(interceptor.Registry)
	if err := webrtc.RegisterDefaultInterceptors(engine, chain); err != nil {
		return nil, fmt.Errorf("register interceptors: %w", err)
	}
	se := webrtc.SettingEngine{}
	quiet := logging.NewDefaultLoggerFactory()
	quiet.DefaultLogLevel = logging.LogLevelDisabled
	se.LoggerFactory = quiet
	se.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	se.SetIncludeLoopbackCandidate(true)
	se.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	se.SetIPFilter(func(ip net.IP) bool { return ip.IsLoopback() })
	if conn != nil {
		se.SetICEUDPMux(webrtc.NewICEUDPMux(nil, conn))
	}
	s := &Server{
		api:     webrtc.NewAPI(webrtc.WithMediaEngine(engine), webrtc.WithInterceptorRegistry(chain), webrtc.WithSettingEngine(se)),
		mux:     http.NewServeMux(),
		streams: make(map[string]*live), sessions: make(map[string]*webrtc.PeerConnection),
	}
	s.mux.HandleFunc("POST /whip/{stream}", func(w http.ResponseWriter, r *http.Request) { s.answer(w, r, s.publish) })
	s.mux.HandleFunc("POST /whep/{stream}", func(w http.ResponseWriter, r *http.Request) { s.answer(w, r, s.view) })
	s.mux.HandleFunc("DELETE /session/{id}", s.remove)
	return s, nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// answer reads an offer, lets prepare add tracks, and answers once candidates are gathered.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, prepare func(stream, offer string, pc *webrtc.PeerConnection) error) {
	offer, err := io.ReadAll(io.LimitReader(r.Body, maxOffer))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	pc, err := s.api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if err := s.negotiate(pc, string(offer), r.PathValue("stream"), prepare); err != nil {
		_ = pc.Close() // the answer is the error before
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	s.mu.Lock()
	s.next++
	id := fmt.Sprint(s.next)
	s.sessions[id] = pc
	s.mu.Unlock()
	w.Header().Set("Location", "/session/"+id)
	w.Header().Set("Content-Type", "application/sdp")
	w.WriteHeader(http.StatusCreated)
	_, _ = io.WriteString(w, pc.LocalDescription().SDP) // a client that went away needs none
}

func (s *Server) negotiate(pc *webrtc.PeerConnection, offer, stream string, prepare func(string, string, *webrtc.PeerConnection) error) error {
	if err := prepare(stream, offer, pc); err != nil {
		return err
	}
	if err := pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer}); err != nil {
		return fmt.Errorf("the offer: %w", err)
	}
	answer, err := pc.CreateAnswer(nil)
	if err != nil {
		return fmt.Errorf("the answer: %w", err)
	}
	gathered := webrtc.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(answer); err != nil {
		return fmt.Errorf("the answer: %w", err)
	}
	<-gathered
	return nil
}

// live is what one publisher sends.
type live struct {
	want   int // tracks that it offered
	tracks []*webrtc.TrackLocalStaticRTP
}

// publish makes each track that arrives one that viewers can be given. A later publisher of the stream takes its place.
func (s *Server) publish(stream, offer string, pc *webrtc.PeerConnection) error {
	l := &live{want: strings.Count(offer, "\nm=")}
	s.mu.Lock()
	s.streams[stream] = l
	s.mu.Unlock()
	pc.OnTrack(func(t *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		out, err := webrtc.NewTrackLocalStaticRTP(t.Codec().RTPCodecCapability, t.Kind().String(), stream)
		if err != nil {
			return
		}
		s.mu.Lock()
		l.tracks = append(l.tracks, out)
		s.mu.Unlock()
		buf := make([]byte, 1600)
		for {
			n, _, err := t.Read(buf)
			if err != nil {
				return
			}
			var p rtp.Packet
			if p.Unmarshal(buf[:n]) == nil {
				_ = out.WriteRTP(&p) // a viewer that is gone must not stop the others
			}
		}
	})
	return nil
}

// await returns the tracks of a stream once all that were offered are there, or those that are there after trackWait.
func (s *Server) await(stream string) []*webrtc.TrackLocalStaticRTP {
	for end := time.Now().Add(trackWait); ; time.Sleep(trackPoll) {
		s.mu.Lock()
		l := s.streams[stream]
		var tracks []*webrtc.TrackLocalStaticRTP
		if l != nil {
			tracks = slices.Clone(l.tracks)
		}
		s.mu.Unlock()
		if l == nil || len(tracks) >= l.want || time.Now().After(end) {
			return tracks
		}
	}
}

// view gives a viewer the tracks that are there, and refuses if there is none.
func (s *Server) view(stream, _ string, pc *webrtc.PeerConnection) error {
	tracks := s.await(stream)
	if len(tracks) == 0 {
		return fmt.Errorf("there is no stream %q yet", stream)
	}
	for _, t := range tracks {
		sender, err := pc.AddTrack(t)
		if err != nil {
			return fmt.Errorf("add a track: %w", err)
		}
		go func() { // ends when the session does
			buf := make([]byte, 1600)
			for {
				if _, _, err := sender.Read(buf); err != nil {
					return
				}
			}
		}()
	}
	return nil
}

func (s *Server) remove(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	pc := s.sessions[r.PathValue("id")]
	delete(s.sessions, r.PathValue("id"))
	s.mu.Unlock()
	if pc == nil {
		http.NotFound(w, r)
		return
	}
	_ = pc.Close() // what fails while closing is gone all the same
}

// Close ends all sessions.
func (s *Server) Close() {
	s.mu.Lock()
	all := s.sessions
	s.sessions = make(map[string]*webrtc.PeerConnection)
	s.mu.Unlock()
	for _, pc := range all {
		_ = pc.Close()
	}
}
