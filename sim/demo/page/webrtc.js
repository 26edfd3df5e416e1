// WHIP and WHEP with fetch: one offer, one answer, DELETE to end. A node that is drained says where to go by an event.

const eventsRel = "urn:ietf:params:whep:ext:core:server-sent-events";
const startWithin = 10_000; // milliseconds until a new session's media flows, or the move has failed
const tryAgain = 2_000; // milliseconds until a move that failed is tried again
const handover = 15_000; // milliseconds in which a publisher sends to both nodes: viewers go over meanwhile

// exchange posts the offer and applies the answer; it returns the function that ends the session and the address of its events.
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
    const problem = await answer.json().catch(() => ({})); // RFC 9457
    throw new Error(problem.detail ?? `the node answered ${answer.status}`);
  }
  await pc.setRemoteDescription({ type: "answer", sdp: await answer.text() });
  const location = answer.headers.get("Location");
  const [, events, rel] = /<([^>]*)>;\s*rel="([^"]*)"/.exec(answer.headers.get("Link") ?? "") ?? [];
  const end = async () => { // DELETE first: the node ends the session as soon as it sees the connection close
    if (location) {
      const resource = new URL(location, url);
      await fetch(resource, { method: "DELETE", headers: { Authorization: `Bearer ${token}` } }).catch(() => {});
    }
    pc.close();
  };
  return { pc, end, events: rel === eventsRel ? new URL(events, url) : null };
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

// soon rejects if a promise takes longer than a new session's media may.
const soon = (promise) => Promise.race([promise, new Promise((_, no) => setTimeout(no, startWithin, new Error("no media")))]);

// stay makes a call that moves when its node asks for it. join(url) opens a session and flows(session) resolves when its media is
// there; then it takes the place of the old one, which leave(old) ends. The call has the pc and the end of the session in use.
async function stay(url, { join, flows, leave, onLost, onMoved }) {
  const call = {};
  const use = (session, at) => {
    const events = session.events && new EventSource(session.events);
    Object.assign(call, session, { end: () => { events?.close(); return session.end(); } });
    session.pc.addEventListener("connectionstatechange", () => {
      if (session.pc.connectionState !== "failed" || call.pc !== session.pc) return;
      events?.close();
      onLost();
    });
    let moving = false;
    const move = async (to) => {
      if (moving || call.pc !== session.pc) return;
      moving = true;
      let next = null;
      try {
        next = await join(to);
        await soon(flows(next));
      } catch { // served here until the deadline
        next?.end();
        moving = false;
        if (session.pc.connectionState === "connected") setTimeout(move, tryAgain, to);
        return;
      }
      if (session.pc.signalingState === "closed") return next.end(); // the person has stopped it meanwhile
      events.close();
      use(next, to);
      leave(session);
      onMoved(to);
    };
    events?.addEventListener("reconnect", (e) => move(new URL(JSON.parse(e.data).url, at).href));
  };
  use(await join(url), url);
  return call;
}

// publish sends a MediaStream by WHIP, for a while to two nodes when it moves.
export function publish(url, token, media, onLost, onMoved) {
  const join = (at) => {
    const pc = new RTCPeerConnection();
    for (const track of media.getTracks()) pc.addTransceiver(track, { direction: "sendonly", streams: [media] });
    return exchange(pc, at, token);
  };
  const flows = ({ pc }) => new Promise((yes) => {
    const look = () => { if (pc.connectionState === "connected") yes(); };
    pc.addEventListener("connectionstatechange", look);
    look();
  });
  return stay(url, { join, flows, leave: (old) => setTimeout(old.end, handover), onLost, onMoved });
}

// watch plays a stream by WHEP in a <video>. When it moves, the new session's picture plays unseen first.
export async function watch(url, token, video, onLost, onMoved) {
  const join = async (at) => {
    const pc = new RTCPeerConnection();
    const media = new MediaStream();
    pc.addTransceiver("video", { direction: "recvonly" });
    pc.addTransceiver("audio", { direction: "recvonly" });
    pc.addEventListener("track", (e) => media.addTrack(e.track));
    return { ...await exchange(pc, at, token), media };
  };
  const flows = async ({ media }) => {
    const unseen = Object.assign(document.createElement("video"), { muted: true, srcObject: media });
    await unseen.play();
    unseen.srcObject = null;
  };
  const show = (to) => { video.srcObject = call.media; onMoved(to); };
  const call = await stay(url, { join, flows, leave: (old) => old.end(), onLost, onMoved: show });
  video.srcObject = call.media;
  return call;
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
