package ebpf_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ternmesh/tern/ebpf"
)

// What real nodes do behind the filter beside withstanding floods: the parts of TestEndToEndFloodsHurtNeitherSessionsNorMesh that
// need the same two nodes.

// on is the field for a part of the test.
func (f *field) on(t *testing.T) *field {
	part := *f
	part.t = t
	return &part
}

// capture has tshark write down what passes the clients' interface and node B's, until it is called again for the frames.
func (f *field) capture() (frames func() [][]byte) {
	f.t.Helper()
	if _, err := exec.LookPath("tshark"); err != nil {
		if os.Getenv("CI") == "true" {
			f.t.Fatalf("CI has to capture: %v", err)
		}
		f.t.Logf("nothing is captured: %v", err)
		return func() [][]byte { return nil }
	}
	ends := map[string]func(){}
	for ns, dev := range map[string]string{"s": "peer0", "b": "peer1"} {
		file := filepath.Join(f.dir, dev+".pcap")
		_, _, pid, wait := f.start(f.in(ns, "tshark", "-q", "-i", dev, "-F", "pcap", "-w", file))
		f.until("tshark captures on "+dev, func() bool {
			info, err := os.Stat(file)
			return err == nil && info.Size() >= pcapHeader
		})
		ends[file] = func() {
			_ = syscall.Kill(pid, syscall.SIGINT)
			wait()
		}
	}
	return func() (out [][]byte) {
		for file, end := range ends {
			end()
			text, err := os.ReadFile(file)
			if err != nil {
				f.t.Fatal(err)
			}
			out = append(out, readPcap(f.t, text)...)
		}
		return out
	}
}

const pcapHeader = 24

// readPcap reads libpcap's file format in this machine's byte order: a header of 24 bytes, and before each frame two
// times and two lengths of four bytes, of which the third counts.
func readPcap(t *testing.T, b []byte) (frames [][]byte) {
	t.Helper()
	if len(b) < pcapHeader || binary.NativeEndian.Uint32(b) != 0xa1b2c3d4 && binary.NativeEndian.Uint32(b) != 0xa1b23c4d {
		t.Fatalf("not a capture: %x", b[:min(len(b), pcapHeader)])
	}
	for b = b[pcapHeader:]; len(b) >= 16; {
		n := int(binary.NativeEndian.Uint32(b[8:]))
		if n > len(b)-16 {
			break // cut when tshark ended
		}
		frames = append(frames, b[16:16+n])
		b = b[16+n:]
	}
	return frames
}

// leastIngest is how many packets ingest sends, however early it is to end: a second of them.
const leastIngest = 100

// ingest sends plain RTP by a session of its own until ended, 100 packets a second.
func ingest(t *testing.T, url string, ended <-chan struct{}) (sent uint64) {
	body := `{"stream":"plain","tracks":[{"kind":"audio","codec":"opus","payload_type":111}]}`
	answer, err := http.Post(url+"/v1/apps/open/channels/room/rtp", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	sdp, err := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
	port := regexp.MustCompile(`m=audio (\d+)`).FindSubmatch(sdp)
	if err != nil || port == nil {
		t.Fatalf("plain RTP: %v, %s %s", err, answer.Status, sdp)
	}
	conn, err := net.Dial("udp", net.JoinHostPort(nodeAAddr, string(port[1])))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	p := append([]byte{0x80, 111}, make([]byte, 170)...)
	for tick := time.NewTicker(10 * time.Millisecond); ; <-tick.C {
		select {
		case <-ended:
			if sent >= leastIngest {
				return sent
			}
		default:
		}
		binary.BigEndian.PutUint16(p[2:], uint16(sent))
		binary.BigEndian.PutUint32(p[4:], uint32(sent)*480)
		if _, err := conn.Write(p); err == nil {
			sent++
		}
	}
}

// shareQuarantine has a source attack A alone; B keeps it out on A's word, and no longer when A's operator lets it out.
func (f *field) shareQuarantine() {
	const attacker = "11.3.3.3"
	listed := func(node string) *ebpf.Quarantined {
		var list []ebpf.Quarantined
		f.ask(node, &list, "quarantine", "list")
		for i := range list {
			if list[i].Source.Addr().String() == attacker {
				return &list[i]
			}
		}
		return nil
	}
	noise := append([]byte{0x40}, make([]byte, 59)...) // as QUIC would begin
	toA, toB := f.openRaw("s", "peer0", "a", "tern0", nodeAAddr), f.openRaw("a", "tern1", "b", "peer1", nodeBAddr)
	f.until("A puts its attacker into quarantine", func() bool {
		toA.flood([][]byte{toA.frame(netip.MustParseAddr(attacker), floodMesh, 0, noise)}, 20_000, 200*time.Millisecond)
		return listed("a") != nil
	})
	f.until("B hears of it", func() bool { return listed("b") != nil })
	if q := listed("b"); q.From != "a" || q.Reason != "rate_source" {
		f.t.Errorf("B's list: %+v", q)
	}
	before := f.count("b", "quic", "quarantine")
	toB.flood([][]byte{toB.frame(netip.MustParseAddr(attacker), floodMesh, 0, noise)}, 5_000, 100*time.Millisecond)
	f.until("B drops what the attacker sends", func() bool { return f.count("b", "quic", "quarantine") > before+100 })
	run(f.t, f.in("a", f.binary, "filter", "quarantine", "remove", attacker, "--admin", f.adminSocket("a"))...)
	f.until("B lets it out when A does", func() bool { return listed("b") == nil })
}

// count is how many packets of a class had a reason at a node, wherever it judged them.
func (f *field) count(node, class, reason string) (n uint64) {
	for _, c := range f.report(node).Counts {
		if c.Class == class && c.Reason == reason {
			n += c.Packets
		}
	}
	return n
}

// restart ends node A in both ways while a member goes on sending. No filter may be left behind, and the first filter of the
// new process must know the member already: it drops none of what comes from it.
func (f *field) restart() {
	var conn net.PacketConn
	f.within("b", func() (err error) {
		conn, err = net.ListenPacket("udp", nodeBAddr+":0")
		return err
	})
	defer conn.Close()
	ended := make(chan struct{})
	defer close(ended)
	go func() { // path frames in order by their form; A's braid refuses them later, by their MAC
		p := append([]byte{5, 0x10, 0, 2, 0, 100, 12: 1}, make([]byte, 117)...)
		to := &net.UDPAddr{IP: net.ParseIP(nodeAMesh), Port: floodMesh}
		for tick := time.NewTicker(200 * time.Microsecond); ; <-tick.C {
			select {
			case <-ended:
				return
			default:
				_, _ = conn.WriteTo(p, to) // while nobody listens, the host says so
			}
		}
	}()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		_ = syscall.Kill(f.nodes["a"].pid, sig)
		f.nodes["a"].wait()
		for _, dev := range []string{"tern0", "tern1"} {
			f.until(fmt.Sprintf("%v leaves no filter on %s", sig, dev), func() bool {
				return !strings.Contains(run(f.t, "ip", "-n", f.ns("a"), "-d", "link", "show", "dev", dev), "prog/xdp")
			})
		}
		f.startNode("a")
		f.until("the new process answers", func() bool {
			args := f.in("a", f.binary, "filter", "status", "--admin", f.adminSocket("a"))
			return exec.Command(args[0], args[1:]...).Run() == nil
		})
		f.until(fmt.Sprintf("after %v the member's frames and gossip pass again", sig), func() bool {
			return f.count("a", "path", "ok") > 1000 && f.count("a", "gossip", "ok") > 0
		})
		r := f.report("a")
		f.t.Logf("after %v: mode %s, %d frames of the member passed", sig, r.Mode, f.count("a", "path", "ok"))
		for _, c := range r.Counts {
			if c.Verdict == "drop" {
				f.t.Errorf("after %v: dropped %+v", sig, c)
			}
		}
	}
}
