package run

import (
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/ternmesh/tern/control/document"
	"github.com/ternmesh/tern/sim/run/scenario"
)

//go:embed library
var library embed.FS

// Library lists the built-in scenarios by name.
func Library() []string {
	entries, _ := fs.Glob(library, "library/*.yaml")
	names := []string{large}
	for _, e := range entries {
		name := strings.TrimSuffix(filepath.Base(e), ".yaml")
		if !strings.HasPrefix(name, "policy-") {
			names = append(names, name)
		}
	}
	for name := range swarms {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// Source returns the text of a scenario, which is a file or else the name of a built-in one, and what opens the files that
// it names. Scenarios that are drawn from a seed are drawn from this one.
func Source(name string, seed uint64) ([]byte, scenario.Open, error) {
	if data, err := os.ReadFile(name); err == nil {
		dir := filepath.Dir(name)
		return data, func(file string) ([]byte, error) {
			if !filepath.IsAbs(file) {
				file = filepath.Join(dir, file)
			}
			return os.ReadFile(file)
		}, nil
	} else if strings.ContainsAny(name, "/.") {
		return nil, nil, err
	}
	if name == large {
		return []byte(largeText(seed)), openLibrary, nil
	}
	if _, drawn := swarms[name]; drawn {
		return []byte(swarmText(name, seed)), openLibrary, nil
	}
	data, err := library.ReadFile("library/" + name + ".yaml")
	if err != nil {
		hint := ": tern sim list shows those"
		if near := document.Nearest(name, Library()); near != "" {
			hint = fmt.Sprintf(", did you mean %q?", near)
		}
		return nil, nil, fmt.Errorf("%q is neither a file nor a built-in scenario%s", name, hint)
	}
	return data, openLibrary, nil
}

func openLibrary(file string) ([]byte, error) {
	return library.ReadFile("library/" + filepath.Base(file))
}

// Load reads and checks a scenario: a file, or a built-in one by its name. A seed of 0 is the scenario's own.
func Load(name string, seed uint64) (*scenario.Scenario, error) {
	data, open, err := Source(name, seed)
	if err != nil {
		return nil, err
	}
	s, err := scenario.Parse(data, open)
	if err != nil {
		return nil, fmt.Errorf("%s:\n%w", name, err)
	}
	return s, nil
}

// Example is a small scenario that states everything itself.
const Example = `name: example
about: Three paths between Frankfurt and Singapore; the direct one degrades.
duration: 30s
warmup: 2s
seed: 1
nodes:
  fra: {region: eu}
  iad: {region: us}
  bom: {region: in}
  sin: {region: ap}
links:
  default: {delay: 60ms, jitter: 1ms, loss: 0.1%}   # for what nothing else states; delay is one-way
  pairs:
    - {from: fra, to: sin, delay: 80ms, jitter: 2ms, loss: 0.2%, rate: 100Mbit, queue: 100ms, both: true}
streams:
  - {name: cam, from: fra, to: [sin], packets_per_second: 200, size: 1150}
events:
  - {at: 10s, for: 10s, link: fra-sin, loss: 5%}
  - {at: 22s, for: 3s, node: bom, action: kill}
`
