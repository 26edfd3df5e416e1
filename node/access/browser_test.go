package access

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ternmesh/tern/node/access/token"
)

// browserPage publishes the fake camera by WHIP, plays it by WHEP in the same page and
// reports what getStats says.
const browserPage = `<!doctype html><video id=v autoplay muted playsinline></video><script>
const report = o => fetch('/report', {method: 'POST', body: JSON.stringify(o)});
async function join(pc, url, token) {
  await pc.setLocalDescription(await pc.createOffer());
  if (pc.iceGatheringState !== 'complete')
    await new Promise(r => pc.addEventListener('icegatheringstatechange', () => pc.iceGatheringState === 'complete' && r()));
  const res = await fetch(url, {method: 'POST', headers: {'Content-Type': 'application/sdp', 'Authorization': 'Bearer ' + token}, body: pc.localDescription.sdp});
  if (res.status !== 201) throw new Error(url + ' answered ' + res.status + ' ' + await res.text());
  if (!res.headers.get('Location') || !res.headers.get('ETag')) throw new Error('a header is not exposed');
  await pc.setRemoteDescription({type: 'answer', sdp: await res.text()});
}
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

func TestChromiumPublishesAndPlays(t *testing.T) {
	t.Parallel() // mostly waits, beside ffmpeg
	if testing.Short() {
		t.Skip("starts a browser")
	}
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("chromium is not installed; CI must have it")
		}
		t.Skip("chromium is not installed")
	}
	w := newWorld(t, nil)
	type result struct {
		Error                                    string
		FramesDecoded, FreezeCount, AudioPackets int
		ICE, Out, SRTP                           string
	}
	reports := make(chan result, 1)
	page := strings.NewReplacer("WHIP,", `"`+w.http.URL+`/whip/demo/room",`, "WHEP,", `"`+w.http.URL+`/whep/demo/room",`,
		"PTOKEN", `"`+w.publisherToken("room")+`"`, "VTOKEN", `"`+w.token("room", time.Hour, token.CanSubscribe)+`"`).Replace(browserPage)
	site := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			var one result
			err := json.NewDecoder(r.Body).Decode(&one)
			if err != nil {
				one.Error = err.Error()
			}
			select {
			case reports <- one:
			default:
			}
			return
		}
		rw.Header().Set("Content-Type", "text/html")
		_, _ = rw.Write([]byte(page))
	}))
	defer site.Close()
	cmd := exec.Command(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--use-fake-device-for-media-stream",
		"--use-fake-ui-for-media-stream", "--disable-background-networking", "--autoplay-policy=no-user-gesture-required",
		"--user-data-dir="+t.TempDir(), "--remote-debugging-port=0", site.URL)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // its helpers are in its group
		_ = cmd.Wait()
	}()
	select {
	case got := <-reports:
		if got.Error != "" || got.FramesDecoded <= 40 || got.AudioPackets <= 50 {
			t.Errorf("the browser says %+v\nstats %+v\nlog:\n%s", got, w.a.Stats(), w.log)
		}
		t.Logf("the browser says %+v", got)
	case <-time.After(2 * patience):
		t.Errorf("the browser says nothing; stats %+v\nlog:\n%s", w.a.Stats(), w.log)
	}
}
