package keyset

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const (
	keyA = `{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`
	keyB = `{"kty":"OKP","crv":"Ed25519","kid":"b","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`
	urlA = "https://keys.example.com/a"
)

// issuer answers instead of a network.
type issuer struct {
	mu    sync.Mutex
	body  string
	code  int
	cache string
	err   error
	asked int
}

func (i *issuer) RoundTrip(*http.Request) (*http.Response, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.asked++
	if i.err != nil {
		return nil, i.err
	}
	h := http.Header{"Cache-Control": {i.cache}, "Location": {"https://elsewhere.example.com/"}}
	return &http.Response{StatusCode: i.code, Status: fmt.Sprint(i.code), Header: h, Body: io.NopCloser(strings.NewReader(i.body))}, nil
}

func (i *issuer) set(f func(*issuer)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	f(i)
}

func (i *issuer) count() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.asked
}

func keys(list ...string) string { return `{"keys":[` + strings.Join(list, ",") + `]}` }

// inBubble runs a store over an issuer in virtual time.
func inBubble(t *testing.T, f func(t *testing.T, s *Store, i *issuer, changes *int)) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{body: keys(keyA), code: 200}
		changes := 0
		client := New(Config{}).cfg.Client // its rules for redirects
		client.Transport = i
		s := New(Config{Client: client, Changed: func() { changes++ }})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		s.Want([]string{urlA})
		synctest.Wait()
		f(t, s, i, &changes)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestKeysAreReadAtOnceAndRotate(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Store, i *issuer, changes *int) {
		if got := s.Keys(urlA); len(got) != 1 || got[0].ID != "a" || *changes != 1 {
			t.Fatalf("%v after the first look, %d changes", got, *changes)
		}
		i.set(func(i *issuer) { i.body = keys(keyA, keyB) })
		time.Sleep(everyURL - 2*time.Second)
		if n := i.count(); n != 1 {
			t.Errorf("asked %d times in 5 minutes, want once", n)
		}
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if got := s.Keys(urlA); len(got) != 2 || *changes != 2 {
			t.Errorf("%v after the rotation began, %d changes", got, *changes)
		}
		i.set(func(i *issuer) { i.body, i.cache = keys(keyB), "max-age=60" })
		time.Sleep(everyURL + 2*time.Second)
		synctest.Wait()
		if got := s.Keys(urlA); len(got) != 1 || got[0].ID != "b" {
			t.Errorf("%v after it ended", got)
		}
		before := i.count()
		time.Sleep(5 * time.Minute)
		if n := i.count() - before; n < 4 || n > 6 {
			t.Errorf("asked %d times in 5 minutes of max-age=60", n)
		}
		s.Want(nil)
		if got := s.Keys(urlA); got != nil {
			t.Errorf("%v of a source that nobody wants", got)
		}
	})
}

func TestAnUnknownKeyReadsTheSetAtOnceButNotForEveryToken(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Store, i *issuer, _ *int) {
		time.Sleep(unknownGap)
		i.set(func(i *issuer) { i.body = keys(keyA, keyB) })
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				s.Refresh(t.Context(), urlA)
				if len(s.Keys(urlA)) != 2 {
					t.Error("a token waited for nothing")
				}
			})
		}
		wg.Wait()
		if got := s.Keys(urlA); len(got) != 2 || i.count() != 2 {
			t.Errorf("%v after %d readings, want one for all", got, i.count())
		}
		for range 20 {
			s.Refresh(t.Context(), urlA)
		}
		s.Refresh(t.Context(), "https://never.example.com/")
		if i.count() != 2 {
			t.Errorf("a flood of unknown keys reads again within seconds: asked %d times", i.count())
		}
	})
}

func TestGoodKeysOutliveFailuresForADay(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Store, i *issuer, changes *int) {
		for name, fail := range map[string]func(*issuer){
			"down": func(i *issuer) { i.err = errors.New("no route") }, "500": func(i *issuer) { i.err, i.code = nil, 500 },
			"redirect": func(i *issuer) { i.code = 302 }, "rubbish": func(i *issuer) { i.code, i.body = 200, "<html>" },
			"too long": func(i *issuer) { i.body = keys(keyA) + strings.Repeat(" ", 64<<10) },
		} {
			i.set(fail)
			time.Sleep(everyURL + time.Minute)
			if got := s.Keys(urlA); len(got) != 1 || *changes != 1 {
				t.Errorf("%s: %v, %d changes", name, got, *changes)
			}
		}
		i.set(func(i *issuer) { i.err = errors.New("no route") })
		time.Sleep(staleAfter + time.Minute)
		if got := s.Keys(urlA); got != nil || *changes != 2 || s.Stats().Empty != 1 {
			t.Errorf("%v after a day, %d changes, %+v", got, *changes, s.Stats())
		}
		i.set(func(i *issuer) { i.err, i.code, i.body = nil, 200, keys(keyB) })
		time.Sleep(afterError + 2*time.Second)
		if got := s.Keys(urlA); len(got) != 1 {
			t.Errorf("%v once it answers again", got)
		}
	})
}

func TestFilesAreLookedAtEveryFewSeconds(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(file, []byte(keys(keyA)), 0o600); err != nil {
		t.Fatal(err)
	}
	inBubble(t, func(t *testing.T, s *Store, _ *issuer, _ *int) {
		url := "file://" + file
		s.Want([]string{url})
		synctest.Wait()
		if got := s.Keys(url); len(got) != 1 || got[0].ID != "a" {
			t.Fatalf("%v", got)
		}
		if err := os.WriteFile(file, []byte(keys(keyB)), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(everyFile + 2*time.Second)
		if got := s.Keys(url); len(got) != 1 || got[0].ID != "b" {
			t.Errorf("%v after the file changed", got)
		}
	})
}

func TestMaxAge(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"": everyURL, "max-age=600": 10 * time.Minute, "public, max-age=1": leastAge, "max-age=999999": mostAge,
		"no-store": leastAge, "max-age=x": everyURL, `max-age="600"`: 10 * time.Minute,
	} {
		if got := maxAge(header); got != want {
			t.Errorf("%q: %s, want %s", header, got, want)
		}
	}
}
