package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// vaultKey is a fence's key as a document holds it: sealed to the voters, who hand it to the nodes inside the fence when
// they ask. Voters hold every key, because a voter decides about fences anyway; nobody else outside of a fence gets
// its key.
type vaultKey struct {
	ID    string            `json:"id"`
	Fence []string          `json:"fence"`
	Wraps map[string][]byte `json:"wraps"` // by the reader's key id
}

const (
	keysInterval = time.Second // between two tries to get keys that are missing
	keysTimeout  = 3 * time.Second
	keysPoll     = 20 * time.Millisecond
	keysPatience = time.Second     // between two questions to one voter
	keysRefresh  = 5 * time.Minute // a voter may have a new key
	maxVault     = 4096            // fence keys that a node keeps; the oldest go when a new policy no longer names them
)

func (c *Control) keyFile() string {
	if c.cfg.KeyFile != "" {
		return c.cfg.KeyFile
	}
	return filepath.Join(c.dir, "node.key")
}

func (c *Control) keptFile() string { return filepath.Join(c.dir, "keys.bin") }

// loadKeys reads the node's key and the fence keys that it kept. What it cannot open any more it asks for again.
func (c *Control) loadKeys() (err error) {
	if c.keys, err = loadNodeKeys(c.keyFile(), c.cfg.KeyFile != ""); err != nil {
		return err
	}
	c.ring = make(map[string]fenceKey)
	box, err := readSealed(c.keptFile(), keptMagic, remedyKept)
	if err != nil || box == nil {
		return err
	}
	plain, err := openWith(c.keys, keepInfo, box)
	if err != nil {
		c.cfg.Logger.Warn("kept fence keys are sealed to another key than this node's: asking for them again", "file", c.keptFile())
		return nil
	}
	var kept []fenceKey
	if err := json.Unmarshal(plain, &kept); err != nil {
		return &CorruptError{File: c.keptFile(), Remedy: remedyKept, Err: errors.New("not what this program wrote")}
	}
	for _, k := range kept {
		c.hold(k)
	}
	return nil
}

// hold takes a key into the ring; mu held, or before Run. A key that is none stays without its cipher: open says why.
func (c *Control) hold(k fenceKey) {
	k.ready, _ = k.aead()
	c.ring[k.ID] = k
}

// keep adds keys to the ring and stores the ring, sealed to the node's own key. It returns whether any was new.
func (c *Control) keep(keys []fenceKey) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	fresh := false
	for _, k := range keys {
		if _, known := c.ring[k.ID]; !known && len(k.Key) == fenceKeyBytes && len(c.ring) < maxVault {
			c.hold(k)
			fresh = true
		}
	}
	if !fresh {
		return false
	}
	all := make([]fenceKey, 0, len(c.ring))
	for _, id := range keysOfMap(c.ring) {
		all = append(all, c.ring[id])
	}
	plain, err := json.Marshal(all)
	if err == nil {
		var box []byte
		if box, err = sealTo(c.keys[0].public, keepInfo, plain); err == nil {
			err = writeSealed(c.keptFile(), keptMagic, box)
		}
	}
	if err != nil {
		c.cfg.Logger.Warn("fence keys are not on disk, a restart asks for them again", "error", err)
	}
	return true
}

// learn opens the keys of a document that are sealed to this node.
func (c *Control) learn(vault []vaultKey) {
	var found []fenceKey
	for _, v := range vault {
		if _, known := c.fenceKey(v.ID); known {
			continue
		}
		for _, k := range c.keys {
			if wrap := v.Wraps[k.id]; wrap != nil {
				if plain, err := openWith([]nodeKey{k}, wrapInfo, wrap); err == nil {
					found = append(found, fenceKey{ID: v.ID, Fence: v.Fence, Key: plain})
				}
			}
		}
	}
	if len(found) > 0 {
		c.keep(found)
	}
}

func (c *Control) fenceKey(id string) (fenceKey, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, known := c.ring[id]
	return k, known
}

// unseal returns p with the certificates of the apps whose fence holds this node in the clear. The others are left out,
// also on voters that could open them, so that nobody takes a sealed one for a secret; missing counts the apps of this
// node's region that could not be opened.
func (c *Control) unseal(p Policy) (_ Policy, missing int) {
	c.learn(p.vault)
	p.Apps = slices.Clone(p.Apps)
	for i := range p.Apps {
		app := &p.Apps[i]
		if !slices.ContainsFunc(app.Certificates, isSealed) {
			continue
		}
		var open []string
		inside := slices.Contains(p.FenceRegions(*app), c.cfg.Region)
		for _, s := range app.Certificates {
			if !isSealed(s) {
				open = append(open, s)
			} else if plain, err := c.unsealOne(app.ID, s); inside && err == nil {
				open = append(open, plain)
			}
		}
		if inside && len(open) < len(app.Certificates) {
			missing++
		}
		app.Certificates = open
	}
	return p, missing
}

// holdsKeys says whether this node can open all certificates of p that it should.
func (c *Control) holdsKeys(p Policy) bool {
	_, missing := c.unseal(p)
	return missing == 0
}

var errNoFenceKey = errors.New("this node does not hold the key of that fence")

func (c *Control) unsealOne(app, s string) (string, error) {
	parsed, err := parseSealed(s)
	if err != nil {
		return "", err
	}
	key, known := c.fenceKey(parsed.key)
	if !known {
		return "", errNoFenceKey
	}
	return key.open(app, parsed)
}

// seal hides every certificate of next under the key of its app's fence. Keys of base are used again, unless somebody
// was revoked since; new fences get new ones, sealed to the voters. Certificates that were kept by their fingerprint
// stay as they are unless the fence changed. Leader only.
func (c *Control) seal(ctx context.Context, next, base Policy) (Policy, error) {
	c.learn(base.vault)
	readers, err := c.readers(ctx)
	if err != nil {
		return next, err
	}
	old := base.vault
	if !slices.Equal(next.Revoked, base.Revoked) {
		old = nil
	}
	vault := make(map[string]vaultKey) // by fence
	before := make(map[string][]string, len(base.Apps))
	for _, a := range base.Apps {
		before[a.ID] = a.Certificates
	}
	next.Apps = slices.Clone(next.Apps)
	for i := range next.Apps {
		app := &next.Apps[i]
		if len(app.Certificates) == 0 {
			continue
		}
		fence := next.FenceRegions(*app)
		name := strings.Join(fence, "\n")
		entry, have := vault[name]
		if !have {
			if entry, err = c.entryFor(fence, old, readers); err != nil {
				return next, err
			}
			vault[name] = entry
		}
		if err := c.sealApp(app, entry.ID, before[app.ID]); err != nil {
			return next, err
		}
	}
	next.vault = nil
	for _, name := range keysOfMap(vault) {
		next.vault = append(next.vault, vault[name])
	}
	return next, nil
}

// entryFor finds or makes the key of a fence and sees that all readers can open it.
func (c *Control) entryFor(fence []string, old []vaultKey, readers [][]byte) (vaultKey, error) {
	var entry vaultKey
	if i := slices.IndexFunc(old, func(v vaultKey) bool { return slices.Equal(v.Fence, fence) }); i >= 0 {
		entry = old[i]
	}
	key, known := c.fenceKey(entry.ID)
	if !known {
		key = newFenceKey(fence)
		c.keep([]fenceKey{key})
		entry = vaultKey{ID: key.ID, Fence: fence}
	}
	wraps := make(map[string][]byte, len(readers))
	for _, public := range readers {
		id := keyID(public)
		if wraps[id] = entry.Wraps[id]; wraps[id] != nil {
			continue
		}
		wrap, err := sealTo(public, wrapInfo, key.Key)
		if err != nil {
			return entry, err
		}
		wraps[id] = wrap
	}
	entry.Wraps = wraps
	return entry, nil
}

// sealApp seals one app's certificates under the key id; before are those that it has now.
func (c *Control) sealApp(app *App, id string, before []string) error {
	key, _ := c.fenceKey(id)
	app.Certificates = slices.Clone(app.Certificates)
	for j, s := range app.Certificates {
		if isSealed(s) {
			parsed, err := parseSealed(s)
			if err != nil {
				return err
			}
			if parsed.key == id {
				continue
			}
			if s, err = c.unsealOne(app.ID, s); err != nil {
				return Problems{{Path: "apps." + app.ID + ".certificates", Reason: fmt.Sprintf("%s cannot be moved to another fence (%v): write the certificate itself", parsed.fingerprint, err)}}
			}
		} else if same := c.sameSecret(before, app.ID, s, id); same != "" {
			app.Certificates[j] = same // the same bytes for the same secret: nothing changed
			continue
		}
		hidden, err := key.seal(app.ID, s)
		if err != nil {
			return err
		}
		app.Certificates[j] = hidden
	}
	return nil
}

// sameSecret finds the sealed form of a secret that the app has already under the key id.
func (c *Control) sameSecret(before []string, app, secret, id string) string {
	for _, s := range before {
		if fingerprintOf(s) != Fingerprint(secret) {
			continue
		}
		if p, err := parseSealed(s); err == nil && p.key == id {
			if plain, err := c.unsealOne(app, s); err == nil && plain == secret {
				return s
			}
		}
	}
	return ""
}

// readers are the public keys of the voters that this node knows, its own among them. They are gathered in the background
// (gatherKeys); only when a majority is not known yet, the voters are asked here, until it is. Fewer would make a policy that
// the next leader cannot read; who is missing gets the keys from the others, and becomes a reader with the next change.
func (c *Control) readers(ctx context.Context) ([][]byte, error) {
	r := c.node()
	if r == nil {
		return nil, ErrNoLeader
	}
	voters := votersOf(r)
	ctx, cancel := context.WithTimeout(ctx, keysTimeout)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	for {
		out := c.knownReaders(voters)
		if len(out) > len(voters)/2 {
			return out, nil
		}
		asking.Go(func() { c.gatherKeys(ctx, voters) })
		if !pause(ctx, keysPoll) {
			return nil, fmt.Errorf("%w (only %d of %d voters gave their key)", ErrNoLeader, len(out), len(voters))
		}
	}
}

func (c *Control) knownReaders(voters []string) [][]byte {
	out := [][]byte{c.keys[0].public}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, v := range voters {
		if k := c.voterKeys[v]; k.public != nil && v != c.cfg.Node {
			out = append(out, k.public)
		}
	}
	return out
}

// voterKey is a voter's public key and when it was asked for.
type voterKey struct {
	public []byte
	fields []string // of documents that its program knows
	asked  time.Time
}

// gatherKeys asks the voters whose key is not known or was asked for a while ago, each at most once in keysPatience.
func (c *Control) gatherKeys(ctx context.Context, voters []string) {
	var g errgroup.Group
	for _, v := range voters {
		c.mu.Lock()
		k := c.voterKeys[v]
		due := v != c.cfg.Node && time.Since(k.asked) > keysPatience && (k.public == nil || time.Since(k.asked) > keysRefresh)
		if due {
			k.asked = time.Now()
			c.voterKeys[v] = k
		}
		c.mu.Unlock()
		if !due {
			continue
		}
		g.Go(func() error {
			ask, cancel := context.WithTimeout(ctx, keysTimeout)
			defer cancel()
			if a, err := c.call(ask, v, request{Op: opPublicKey}); err == nil && len(a.PublicKey) > 0 {
				c.mu.Lock()
				c.voterKeys[v] = voterKey{public: a.PublicKey, fields: a.Fields, asked: time.Now()}
				c.mu.Unlock()
			}
			return nil
		})
	}
	_ = g.Wait() // who did not answer is asked again
}

// handOut seals to public the keys that node may read: all of them for a voter, and otherwise those of fences that hold
// its region.
func (c *Control) handOut(node string, public []byte) ([]byte, error) {
	var region string
	voter := false
	for _, m := range c.cfg.Members() {
		if m.Node == node {
			region, voter = m.Region, m.Voter
		}
	}
	var out []fenceKey
	c.mu.Lock()
	vault := c.vault
	for _, v := range vault {
		if k, known := c.ring[v.ID]; known && (voter || region != "" && slices.Contains(v.Fence, region)) {
			out = append(out, k)
		}
	}
	c.mu.Unlock()
	if len(out) == 0 || len(public) == 0 {
		return nil, nil
	}
	plain, err := json.Marshal(out)
	if err != nil {
		return nil, err
	}
	return sealTo(public, handInfo, plain)
}

// takeKeys keeps what handOut gave.
func (c *Control) takeKeys(box []byte) bool {
	if len(box) == 0 {
		return false
	}
	plain, err := openWith(c.keys, handInfo, box)
	if err != nil {
		return false
	}
	var keys []fenceKey
	return json.Unmarshal(plain, &keys) == nil && c.keep(keys)
}

// sweepAbove is the size of a document that leaves so much garbage, twenty times as much and more, that the memory is given
// back at once, and not some minutes later: small nodes have other uses for it.
const sweepAbove = 128 << 10

// keysLoop asks voters, and then anybody, for the keys that are missing, and enforces the policy again with them.
func (c *Control) keysLoop(ctx context.Context) error {
	swept := uint64(0)
	for pause(ctx, keysInterval) {
		c.mu.Lock()
		missing, asking := c.sealedApps, c.copy
		c.mu.Unlock()
		if asking.Version != swept && len(asking.Document) > sweepAbove {
			debug.FreeOSMemory()
		}
		swept = asking.Version
		if missing == 0 {
			continue
		}
		for _, node := range c.keyHolders() {
			ask, cancel := context.WithTimeout(ctx, keysTimeout)
			a, err := c.call(ask, node, request{Op: opKeys, PublicKey: c.keys[0].public})
			cancel()
			if err == nil && c.takeKeys(a.Keys) {
				c.reopen(asking.Version)
				break
			}
		}
	}
	return nil
}

// keyHolders lists whom to ask, voters first.
func (c *Control) keyHolders() []string {
	out := c.aliveVoters()
	for _, m := range c.cfg.Members() {
		if m.Alive && !m.Voter && m.Node != c.cfg.Node && m.Region == c.cfg.Region {
			out = append(out, m.Node)
		}
	}
	return out
}

// reopen enforces the policy in force again, with keys that came late.
func (c *Control) reopen(version uint64) {
	c.installMu.Lock()
	defer c.installMu.Unlock()
	c.mu.Lock()
	e := c.copy
	c.mu.Unlock()
	if e.Version != version {
		return
	}
	stored, err := decodeDocument(e.Document, e.Version)
	if err != nil {
		return // it was read before
	}
	p, missing := c.unseal(stored)
	c.mu.Lock()
	c.policy, c.sealedApps = p, missing
	c.mu.Unlock()
	c.cfg.Enforce(p)
	c.cfg.Logger.Info("certificates opened", "version", p.Version, "still_sealed", missing)
}

// Enforcement is what this node says of itself: what its parts took, and whether certificates are still sealed.
func (c *Control) Enforcement() Enforcement {
	e := c.cfg.Enforced()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unread > c.policy.Version && e.Trouble == "" {
		e.Trouble = c.unreadWhy
	}
	if c.sealedApps > 0 && e.Trouble == "" {
		e.Trouble = fmt.Sprintf("version %d: certificates of %d apps are sealed, and no node has handed out the key yet: their clients are refused here", e.Version, c.sealedApps)
	}
	return e
}
