package access

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// browserCalls begins every page: report tells the test, join says when it sent its POST and where the session is.
const browserCalls = `<!doctype html><body><script>
const report = o => fetch('/report', {method: 'POST', body: JSON.stringify(o)});
async function join(pc, url, token) {
  await pc.setLocalDescription(await pc.createOffer());
  if (pc.iceGatheringState !== 'complete')
    await new Promise(r => pc.addEventListener('icegatheringstatechange', () => pc.iceGatheringState === 'complete' && r()));
  const posted = performance.now();
  const res = await fetch(url, {method: 'POST', headers: {'Content-Type': 'application/sdp', 'Authorization': 'Bearer ' + token}, body: pc.localDescription.sdp});
  if (res.status !== 201) throw new Error(url + ' answered ' + res.status + ' ' + await res.text());
  if (!res.headers.get('Location') || !res.headers.get('ETag')) throw new Error('a header is not exposed');
  await pc.setRemoteDescription({type: 'answer', sdp: await res.text()});
  return {posted, location: new URL(res.headers.get('Location'), url)};
}
</script>`

// browserPage publishes the fake camera by WHIP, plays it by WHEP in the same page and
// reports what getStats says.
const browserPage = browserCalls + `<video id=v autoplay muted playsinline></video><script>
(async () => {
  const out = new RTCPeerConnection(), back = new RTCPeerConnection();
  const media = await navigator.mediaDevices.getUserMedia({video: {width: 640, height: 360}, audio: true});
  for (const t of media.getTracks()) out.addTransceiver(t, {direction: 'sendonly', streams: [media]});
  await join(out, WHIP, PTOKEN);
  back.addTransceiver('video', {direction: 'recvonly'});
  back.addTransceiver('audio', {direction: 'recvonly'});
  back.ontrack = e => { document.getElementById('v').srcObject = e.streams[0]; };
  await join(back, WHEP, VTOKEN);
  const start = performance.now();
  for (;;) {
    await new Promise(r => setTimeout(r, 200));
    let video = {}, audio = {};
    (await back.getStats()).forEach(s => { if (s.type === 'inbound-rtp') { if (s.kind === 'video') video = s; else audio = s; } });
    const done = video.framesDecoded > 40 && audio.packetsReceived > 50;
    if (done || performance.now() - start > 15000) {
      await report({framesDecoded: video.framesDecoded, freezeCount: video.freezeCount, audioPackets: audio.packetsReceived,
        ice: back.iceConnectionState, out: out.iceConnectionState, srtp: [...(await back.getStats()).values()].filter(s => s.srtpCipher).map(s => s.srtpCipher).join()});
      return;
    }
  }
})().catch(e => report({error: String(e)}));
</script>`

// browse opens a page in headless Chromium until the test ends. What it reports comes out of the channel.
func browse(t testing.TB, page string) <-chan []byte {
	t.Helper()
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("chromium is not installed; CI must have it")
		}
		t.Skip("chromium is not installed")
	}
	reports := make(chan []byte, 1)
	site := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			rw.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(rw, page)
			return
		}
		if said, err := io.ReadAll(r.Body); err == nil {
			select {
			case reports <- said:
			case <-r.Context().Done():
			}
		}
	}))
	t.Cleanup(site.Close)
	cmd := exec.Command(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--use-fake-device-for-media-stream",
		"--use-fake-ui-for-media-stream", "--disable-background-networking", "--autoplay-policy=no-user-gesture-required",
		"--user-data-dir="+t.TempDir(), "--remote-debugging-port=0", site.URL)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // its helpers are in its group
		_ = cmd.Wait()
	})
	return reports
}

// heard waits for the page's next report.
func (w *world) heard(reports <-chan []byte, into any) {
	w.t.Helper()
	select {
	case said := <-reports:
		if err := json.Unmarshal(said, into); err != nil {
			w.t.Fatalf("the browser says %q: %v", said, err)
		}
	case <-time.After(2 * patience):
		w.t.Fatalf("the browser says nothing; stats %+v\nlog:\n%s", w.a.Stats(), w.log)
	}
}

func TestChromiumPublishesAndPlays(t *testing.T) {
	t.Parallel() // mostly waits, beside ffmpeg
	if testing.Short() {
		t.Skip("starts a browser")
	}
	w := newWorld(t, nil)
	var got struct {
		Error                                    string
		FramesDecoded, FreezeCount, AudioPackets int
		ICE, Out, SRTP                           string
	}
	page := strings.NewReplacer("WHIP,", `"`+w.http.URL+`/whip/demo/room",`, "WHEP,", `"`+w.http.URL+`/whep/demo/room",`,
		"PTOKEN", `"`+w.publisherToken("room")+`"`, "VTOKEN", `"`+w.viewerToken("room")+`"`).Replace(browserPage)
	w.heard(browse(t, page), &got)
	if got.Error != "" || got.FramesDecoded <= 40 || got.AudioPackets <= 50 {
		t.Errorf("the browser says %+v\nstats %+v\nlog:\n%s", got, w.a.Stats(), w.log)
	}
	t.Logf("the browser says %+v", got)
}
