// WHIP and WHEP with fetch: one offer, one answer, DELETE to end.

// exchange posts the offer and applies the answer; it returns the function that ends the session.
async function exchange(pc, url, token) {
  await pc.setLocalDescription(await pc.createOffer());
  await gathered(pc);
  const answer = await fetch(url, {
    method: "POST",
    headers: { "Content-Type": "application/sdp", Authorization: `Bearer ${token}` },
    body: pc.localDescription.sdp,
  });
  if (answer.status !== 201) {
    pc.close();
    throw new Error(answer.status === 404 ? "nothing is published there yet" : `the node answered ${answer.status}`);
  }
  await pc.setRemoteDescription({ type: "answer", sdp: await answer.text() });
  const location = answer.headers.get("Location");
  return async () => { // DELETE first: the node ends the session as soon as it sees the connection close
    if (location) {
      const resource = new URL(location, url);
      await fetch(resource, { method: "DELETE", headers: { Authorization: `Bearer ${token}` } }).catch(() => {});
    }
    pc.close();
  };
}

// gathered waits for the browser's candidates, but not long: on loopback they are there at once.
function gathered(pc) {
  return new Promise((resolve) => {
    if (pc.iceGatheringState === "complete") return resolve();
    const done = () => { if (pc.iceGatheringState === "complete") resolve(); };
    pc.addEventListener("icegatheringstatechange", done);
    setTimeout(resolve, 1000);
  });
}

function lostCall(pc, onLost) {
  pc.addEventListener("connectionstatechange", () => {
    if (pc.connectionState === "failed") onLost();
  });
}

// publish sends a MediaStream by WHIP.
export async function publish(url, token, media, onLost) {
  const pc = new RTCPeerConnection();
  for (const track of media.getTracks()) pc.addTransceiver(track, { direction: "sendonly", streams: [media] });
  lostCall(pc, onLost);
  return exchange(pc, url, token);
}

// watch plays a stream by WHEP in a <video>; it returns the connection for its statistics and the function that ends it.
export async function watch(url, token, video, onLost) {
  const pc = new RTCPeerConnection();
  const media = new MediaStream();
  pc.addTransceiver("video", { direction: "recvonly" });
  pc.addTransceiver("audio", { direction: "recvonly" });
  pc.addEventListener("track", (e) => {
    media.addTrack(e.track);
    if (video.srcObject !== media) video.srcObject = media;
  });
  lostCall(pc, onLost);
  const end = await exchange(pc, url, token);
  return { pc, end };
}

// figures reads what the page shows of a viewer's connection.
export async function figures(pc) {
  const out = {};
  for (const s of (await pc.getStats()).values()) {
    if (s.type === "inbound-rtp" && s.kind === "video") {
      Object.assign(out, {
        fps: s.framesPerSecond ?? 0, freezes: s.freezeCount ?? 0, frozen: s.totalFreezesDuration ?? 0,
        jitter: (s.jitter ?? 0) * 1000, lost: s.packetsLost ?? 0, decoded: s.framesDecoded ?? 0,
      });
    }
  }
  return out;
}
