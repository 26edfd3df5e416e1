package keyset

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/ternmesh/tern/node/access/token"
)

// fetch reads a source once and says when to read it again.
func (s *Store) fetch(ctx context.Context, source string) (keys []token.Key, again time.Duration, err error) {
	u, err := url.Parse(source)
	if err != nil {
		return nil, 0, err
	}
	var doc []byte
	if u.Scheme == "file" {
		doc, err = readFile(u.Path)
		again = everyFile
	} else {
		doc, again, err = s.get(ctx, source)
	}
	if err != nil {
		return nil, 0, err
	}
	keys, err = token.ParseKeySet(doc)
	return keys, again, err
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, token.MaxKeySetBytes+1)) // one more: the parser says that it is too long
}

// get asks a URL.
func (s *Store) get(ctx context.Context, source string) ([]byte, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchFor)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, source, nil)
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	res, err := s.cfg.Client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, 0, fmt.Errorf("answered %s: a key set needs 200, at this very URL", res.Status)
	}
	doc, err := io.ReadAll(io.LimitReader(res.Body, token.MaxKeySetBytes+1))
	return doc, maxAge(res.Header.Get("Cache-Control")), err
}

// maxAge reads Cache-Control as far as it concerns us.
func maxAge(header string) time.Duration {
	for part := range strings.SplitSeq(header, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch strings.ToLower(name) {
		case "no-store", "no-cache":
			return leastAge
		case "max-age":
			if n, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31); err == nil {
				return min(max(time.Duration(n)*time.Second, leastAge), mostAge)
			}
		}
	}
	return everyURL
}
