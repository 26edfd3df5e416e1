package node

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table of docs/config.md and docs/config.schema.json anew")

func TestEveryConfigurationKeyIsDescribed(t *testing.T) {
	known := make(map[string]bool)
	for _, l := range leaves(reflect.ValueOf(&Config{}).Elem(), "") {
		known[l.key] = true
		if keys[l.key].says == "" || keys[l.key].fallback == "" {
			t.Errorf("keys.go does not describe %s", l.key)
		}
	}
	for name := range keys {
		if !known[name] {
			t.Errorf("keys.go describes %s, which no configuration has", name)
		}
	}
}

// TestTheDocumentsOfTheConfigurationAreItsKeys: go test ./node -run Documents -update writes both.
func TestTheDocumentsOfTheConfigurationAreItsKeys(t *testing.T) {
	const page, schema, head = "../docs/config.md", "../docs/config.schema.json", "| key | default |"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), head)
	_, after, ok2 := strings.Cut(rest, "\n\n")
	if !ok || !ok2 {
		t.Fatalf("%s has no table", page)
	}
	want := before + ConfigTable() + "\n" + after
	if *update {
		if err := errors.Join(os.WriteFile(page, []byte(want), 0o644), os.WriteFile(schema, ConfigSchema(), 0o644)); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want != string(text) {
		t.Errorf("the table of %s is not keys.go's: run this test with -update", page)
	}
	if got, err := os.ReadFile(schema); err != nil || !bytes.Equal(got, ConfigSchema()) {
		t.Errorf("%s is not what the configuration says (%v): run this test with -update", schema, err)
	}
}

func TestTheMetricsTableIsTheMetrics(t *testing.T) {
	text, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("metrics*.go")
	if err != nil {
		t.Fatal(err)
	}
	var source []byte
	for _, file := range files {
		part, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		source = append(source, part...)
	}
	declared := make(map[string]bool)
	for _, m := range regexp.MustCompile(`= metric\("([a-z_]+)"`).FindAllStringSubmatch(string(source), -1) {
		declared["tern_"+m[1]] = true
		if !strings.Contains(string(text), "`tern_"+m[1]+"`") {
			t.Errorf("docs/metrics.md does not have tern_%s", m[1])
		}
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `(tern_[a-z_]+)`").FindAllStringSubmatch(string(text), -1) {
		if !declared[m[1]] {
			t.Errorf("docs/metrics.md has %s, which no code declares", m[1])
		}
	}
}

// TestDashboardAndAlertsNameRealMetrics: what is deployed beside a node asks for metrics that a node has.
func TestDashboardAndAlertsNameRealMetrics(t *testing.T) {
	table, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, file := range []string{"../.deploy/prometheus/alerts.yaml", "../.deploy/grafana/tern.json"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`tern_[a-z_]+`).FindAllString(string(text), -1) {
			seen++
			if !strings.Contains(string(table), "`"+name+"`") {
				t.Errorf("%s asks for %s, which no node has", file, name)
			}
		}
	}
	if seen < 30 {
		t.Errorf("only %d names of metrics were found", seen)
	}
}
