package control

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/errgroup"
)

// Copies travel by pull: a node that sees a higher PolicyVersion among its members, or is told of one, asks one of them, at
// random. Who enforces a new version tells a few that are behind, who do the same: the news is everywhere after a few
// steps, and the leader serves no more than these few, however many nodes there are. Gossip reaches the rest.
const (
	newsFanout   = 5
	newsInline   = 64 << 10 // bytes of a document that goes along with the news
	newsTimeout  = 2 * time.Second
	newsRounds   = 3
	newsPause    = 150 * time.Millisecond
	newsPatience = 500 * time.Millisecond

	fetchInterval = 300 * time.Millisecond // plus up to as much again; a look at a local table
	fetchTimeout  = 5 * time.Second
	fetchPeers    = 3 // asked in one round before it is given up
)

// envelope is a version of the policy, signed by a voter. Who holds one can prove it to anybody in the mesh, so any
// peer may hand it on.
type envelope struct {
	Version  uint64 `json:"version"`
	Document []byte `json:"document"` // stored form, secrets included
	Cert     []byte `json:"cert"`     // DER, of the signer
	Sig      []byte `json:"sig"`

	Change string `json:"change,omitempty"` // Proposal.ID of the change; not signed: it decides nothing

	Audit AuditMark `json:"audit,omitzero"` // the newest line of the audit log when it was signed
}

// signedBytes is what the signature covers: a fixed label (no signature made for anything else can pass for one of
// these), the version and the audit mark's number (u64, big-endian), its hash (u8 length, then so many bytes), and the
// document to the end.
func (e envelope) signedBytes() []byte {
	b := append([]byte("tern policy envelope 2\x00"), make([]byte, 16)...)
	binary.BigEndian.PutUint64(b[len(b)-16:], e.Version)
	binary.BigEndian.PutUint64(b[len(b)-8:], e.Audit.Seq)
	hash := e.Audit.Hash[:min(len(e.Audit.Hash), 255)]
	b = append(append(b, byte(len(hash))), hash...)
	return append(b, e.Document...)
}

// encode is the form on disk: u32 length (big-endian) of the JSON of everything but the document, that JSON, the document.
func (e envelope) encode() ([]byte, error) {
	document := e.Document
	e.Document = nil
	head, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(head)+len(document)), uint32(len(head)))
	return append(append(b, head...), document...), nil
}

// decodeEnvelope is the inverse; it also reads what was JSON as a whole.
func decodeEnvelope(b []byte) (e envelope, err error) {
	if bytes.HasPrefix(b, []byte("{")) {
		return e, json.Unmarshal(b, &e)
	}
	head, document, err := cut(b, len(b))
	if err == nil {
		err = json.Unmarshal(head, &e)
	}
	e.Document = document
	return e, err
}

// whole is e with its document, which steps make from base where e came without.
func (e envelope) whole(base envelope, have uint64, steps [][]byte) (_ envelope, err error) {
	if len(e.Document) > 0 || len(steps) == 0 {
		return e, nil
	}
	if base.Version != have {
		return e, fmt.Errorf("%w: it is for version %d", errDelta, have)
	}
	e.Document, err = follow(base.Document, steps)
	return e, err
}

// errNotVoter refuses a signature by a node that has no say.
var errNotVoter = errors.New("signed by a node that is not a voter of this mesh")

// open verifies e and decodes its policy.
func (e envelope) open(verify func(msg, cert, sig []byte) (string, bool, error)) (Policy, error) {
	if e.Version == 0 || len(e.Document) > MaxDocumentBytes || len(e.Audit.Hash) > 255 {
		return Policy{}, fmt.Errorf("envelope of version %d with %d bytes", e.Version, len(e.Document))
	}
	signer, voter, err := verify(e.signedBytes(), e.Cert, e.Sig)
	if err != nil {
		return Policy{}, fmt.Errorf("policy version %d: %w", e.Version, err)
	}
	if !voter {
		return Policy{}, fmt.Errorf("policy version %d by %s: %w", e.Version, signer, errNotVoter)
	}
	p, err := decodeDocument(e.Document, e.Version)
	if err != nil {
		return p, fmt.Errorf("policy version %d: %w (%w)", e.Version, err, errFromFuture)
	}
	return p, nil
}

// read opens a copy, and keeps in mind one that is good and cannot be read.
func (c *Control) read(e envelope) (Policy, error) {
	p, err := e.open(c.cfg.Verify)
	if errors.Is(err, errFromFuture) {
		c.unreadable(e.Version, err)
	}
	return p, err
}

func (c *Control) copyFile() string { return filepath.Join(c.dir, "policy.bin") }

// load takes the last copy from disk. The signature is not asked again: its certificate may have expired since, and
// a node must start from what it enforced before. The checksum guards against damage.
func (c *Control) load() error {
	payload, err := readSealed(c.copyFile(), copyMagic, remedyCopy)
	if err != nil || payload == nil {
		return err
	}
	var p Policy
	e, err := decodeEnvelope(payload)
	if err == nil {
		p, err = decodeDocument(e.Document, e.Version)
	}
	if err != nil {
		return &CorruptError{File: c.copyFile(), Remedy: remedyCopy, Err: err}
	}
	c.copy, c.vault, c.since = e, p.vault, time.Now() // before Run: nobody else is there
	c.policy, c.sealedApps = c.unseal(p)
	return nil
}

// install stores a verified copy and enforces it, unless this node is there already. A full disk does not keep a
// policy from being enforced; it is reported, and the next version is stored again.
func (c *Control) install(e envelope, p Policy) {
	c.installMu.Lock()
	defer c.installMu.Unlock()
	if p.Version <= c.Policy().Version {
		return
	}
	b, err := e.encode()
	if err == nil {
		err = writeSealed(c.copyFile(), copyMagic, b)
	}
	c.mu.Lock()
	before, chain := c.copy, c.chain
	c.mu.Unlock()
	if before.Version > 0 {
		chain = chain.with(deltaStep{from: before.Version, to: e.Version, delta: makeDelta(before.Document, e.Document)})
	}
	unsaved := ""
	if err != nil {
		unsaved = fmt.Sprintf("policy version %d is enforced but not on disk, so that a restart begins with an older one: %v", p.Version, err)
		c.cfg.Logger.Warn("control", "error", unsaved)
	}
	p, missing := c.unseal(p)
	if len(e.Change) <= maxWho {
		p.Change = e.Change
	}
	c.mu.Lock()
	c.unsaved, c.since = unsaved, time.Now()
	c.copy, c.chain, c.vault, c.policy, c.sealedApps = e, chain, p.vault, p, missing
	c.mu.Unlock()
	c.cfg.Enforce(p)
	nudge(c.spread)
	c.cfg.Logger.Info("policy enforced", "version", p.Version, "apps", len(p.Apps), "blocklist", len(p.Blocklist))
}

// publishLoop signs what the log applied, on voters. Versions that were overtaken meanwhile are passed over.
func (c *Control) publishLoop(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.news:
		}
		var e envelope
		var p Policy
		c.fsm.read(func(st *state) {
			e.Version, e.Document, e.Audit, p = st.version, st.document, st.audit.head(), st.policy
			if h := st.history.changes; len(h) > 0 && h[len(h)-1].Version == st.version {
				e.Change = h[len(h)-1].ID
			}
		})
		if e.Version <= c.Policy().Version {
			continue
		}
		var err error
		if e.Cert, e.Sig, err = c.cfg.Sign(e.signedBytes()); err != nil {
			c.fail(fmt.Sprintf("policy version %d cannot be signed, peers will not get it here: %v", e.Version, err))
		}
		c.install(e, p)
	}
}

// fetchLoop keeps up with the mesh, on voters too: one that is cut off from raft may still reach a peer.
func (c *Control) fetchLoop(ctx context.Context) error {
	for {
		t := time.NewTimer(fetchInterval + rand.N(fetchInterval))
		select {
		case <-ctx.Done():
		case <-c.wake:
		case <-t.C:
		}
		t.Stop()
		if ctx.Err() != nil {
			return nil
		}
		c.fetchNewer(ctx)
		c.storeAgain()
	}
}

// storeAgain writes the copy in force if its first writing failed: a disk that was full has room again, and a restart must
// not begin with an older policy.
func (c *Control) storeAgain() {
	c.mu.Lock()
	unsaved := c.unsaved
	c.mu.Unlock()
	if unsaved == "" {
		return
	}
	c.installMu.Lock()
	defer c.installMu.Unlock()
	c.mu.Lock()
	e := c.copy
	c.mu.Unlock()
	b, err := e.encode()
	if err == nil {
		err = writeSealed(c.copyFile(), copyMagic, b)
	}
	if err != nil {
		return // said already
	}
	c.mu.Lock()
	c.unsaved = ""
	c.mu.Unlock()
	c.cfg.Logger.Info("the policy is on disk again", "version", e.Version)
}

// fetchNewer asks up to fetchPeers of the members that claim a higher version.
func (c *Control) fetchNewer(ctx context.Context) {
	c.mu.Lock()
	have, unread := c.policy.Version, c.unread
	c.mu.Unlock()
	var ahead []string
	for _, m := range c.cfg.Members() {
		if m.Alive && m.Node != c.cfg.Node && m.PolicyVersion > max(have, unread) { // once is enough of what cannot be read
			ahead = append(ahead, m.Node)
		}
	}
	// Whoever is told fetches at once; who sees it in gossip waits for the news a little, or all would ask the first.
	told := c.toldBy(have)
	switch {
	case len(ahead) == 0:
		c.aheadSince = time.Time{}
	case c.aheadSince.IsZero() || c.aheadOf != have:
		c.aheadSince, c.aheadOf = time.Now(), have
	}
	if len(told) > 0 {
		ahead = told
	} else if len(ahead) > 0 && time.Since(c.aheadSince) < newsPatience {
		return
	}
	rand.Shuffle(len(ahead), func(i, j int) { ahead[i], ahead[j] = ahead[j], ahead[i] })
	for _, node := range slices.Clip(ahead[:min(len(ahead), fetchPeers)]) {
		err := c.fetch(ctx, node, have)
		if err == nil {
			c.aheadSince = time.Time{}
			c.fail("")
			return
		}
		if ctx.Err() != nil {
			return
		}
		c.fail(fmt.Sprintf("policy from %s: %v", node, err))
	}
}

// fetch takes one copy from node.
func (c *Control) fetch(ctx context.Context, node string, have uint64) error {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	c.mu.Lock()
	base := c.copy
	c.mu.Unlock()
	for deltas := have > 0; ; deltas = false {
		a, err := c.call(ctx, node, request{Op: opEnvelope, Have: have, Deltas: deltas, PublicKey: c.keys[0].public})
		if err != nil {
			c.counts.failed.Add(1)
			return err
		}
		if a.Envelope == nil || a.Envelope.Version <= have {
			c.counts.refused.Add(1)
			return fmt.Errorf("claims a policy above version %d and has none", have)
		}
		e, err := a.Envelope.whole(base, have, a.Steps)
		if errors.Is(err, errDelta) && deltas { // the same version was another document there: all of it, then
			continue
		}
		if err != nil {
			c.counts.refused.Add(1)
			return err
		}
		return c.accept(e, len(a.Steps) > 0, a.Keys)
	}
}

// accept verifies a copy that came from a peer, and enforces it.
func (c *Control) accept(e envelope, delta bool, keys []byte) error {
	p, err := c.read(e)
	if err != nil {
		c.counts.refused.Add(1)
		return err
	}
	c.counts.fetched.Add(1)
	if delta {
		c.counts.deltas.Add(1)
	}
	c.takeKeys(keys) // before the policy that needs them
	c.install(e, p)
	return nil
}

// spreadLoop tells others of the version that came into force here: a few at once, with the copy, and a few more a moment
// later, without it, for the odd node that nobody told.
func (c *Control) spreadLoop(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.spread:
		}
		news := c.newsOf()
		told := make(map[string]bool)
		for round := range newsRounds {
			c.tell(ctx, news, told, round == 0)
			leads := false
			if r := c.node(); r != nil {
				leads = r.State() == raft.Leader // it has done its part: the others tell the rest
			}
			if leads || c.Policy().Version != news.copy.Version || !pause(ctx, newsPause) {
				break
			}
		}
	}
}

// tell hands news to newsFanout nodes that are behind and not in told, which it adds them to.
func (c *Control) tell(ctx context.Context, n news, told map[string]bool, whole bool) {
	var behind []Member
	for _, m := range c.cfg.Members() {
		if m.Alive && m.Node != c.cfg.Node && m.PolicyVersion < n.copy.Version && !told[m.Node] {
			behind = append(behind, m)
		}
	}
	rand.Shuffle(len(behind), func(i, j int) { behind[i], behind[j] = behind[j], behind[i] })
	ctx, cancel := context.WithTimeout(ctx, newsTimeout)
	defer cancel()
	var g errgroup.Group
	for _, m := range behind[:min(len(behind), newsFanout)] {
		told[m.Node] = true
		req := request{Op: opNews, Version: n.copy.Version}
		if whole {
			n.attach(&req, m.PolicyVersion)
		}
		c.countServed(req.Envelope, req.Steps)
		g.Go(func() error {
			_, err := c.call(ctx, m.Node, req)
			return err
		})
	}
	_ = g.Wait() // who did not hear it sees it in gossip
}

// news is what spreadLoop tells: the version, and with it the copy or the way to it where that is small.
type news struct {
	copy  envelope
	chain deltaChain
}

func (c *Control) newsOf() news {
	c.mu.Lock()
	defer c.mu.Unlock()
	return news{c.copy, c.chain}
}

// attach adds to a request what brings a node at version have up to date.
func (n news) attach(req *request, have uint64) {
	e := n.copy
	steps := n.chain.since(have)
	switch {
	case len(e.Sig) == 0:
	case worthwhile(steps, e.Document) && sizeOf(steps) <= newsInline:
		e.Document = nil
		req.Envelope, req.Have, req.Steps = &e, have, steps
	case len(e.Document) <= newsInline:
		req.Envelope = &e
	}
}

// worthwhile says whether steps are there and less than half of the document that they make.
func worthwhile(steps [][]byte, document []byte) bool {
	return len(steps) > 0 && sizeOf(steps) < len(document)/2
}

func sizeOf(steps [][]byte) (n int) {
	for _, s := range steps {
		n += len(s)
	}
	return n
}

// countServed counts a copy that goes out, in whichever form.
func (c *Control) countServed(e *envelope, steps [][]byte) {
	if e != nil {
		c.counts.served.Add(1)
		c.counts.servedBytes.Add(uint64(len(e.Document) + sizeOf(steps)))
	}
}

// hear takes a peer's news: it enforces the copy that came along, or notes whom to ask for one. What a voter's log has applied is
// on its way into force already.
func (c *Control) hear(from string, req request) {
	var applied uint64
	c.fsm.read(func(st *state) { applied = st.version })
	if req.Version <= max(applied, c.Policy().Version) {
		return
	}
	if req.Envelope != nil && req.Envelope.Version == req.Version && c.takeNews(from, req) {
		return
	}
	c.mu.Lock()
	if len(c.told) < maxTold {
		c.told[from] = req.Version
	}
	c.mu.Unlock()
	nudge(c.wake)
}

// takeNews enforces the copy that came with news, if it is good and this node holds the keys to it; it also returns true for a
// copy that is refused, since its sender has no other.
func (c *Control) takeNews(from string, req request) bool {
	c.mu.Lock()
	base := c.copy
	c.mu.Unlock()
	e, err := req.Envelope.whole(base, req.Have, req.Steps)
	if err != nil {
		return false // for another version than this node's: it asks
	}
	p, err := c.read(e)
	if err != nil {
		c.counts.refused.Add(1)
		c.fail(fmt.Sprintf("policy from %s: %v", from, err))
		return true
	}
	if !c.holdsKeys(p) {
		return false
	}
	c.counts.fetched.Add(1)
	if len(req.Steps) > 0 {
		c.counts.deltas.Add(1)
	}
	c.install(e, p)
	return true
}

// maxTold bounds how many peers' news wait.
const maxTold = 64

// toldBy takes the peers that told of a version above have; the rest is old.
func (c *Control) toldBy(have uint64) (out []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for node, version := range c.told {
		if version > have {
			out = append(out, node)
		}
	}
	clear(c.told)
	return out
}
