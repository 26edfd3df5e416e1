package node

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// keysOf lists the configuration's keys as documents write them.
func keysOf(t reflect.Type, prefix string) (keys []string) {
	for i := range t.NumField() {
		name := prefix + t.Field(i).Tag.Get("yaml")
		if t.Field(i).Type.Kind() == reflect.Struct {
			keys = append(keys, keysOf(t.Field(i).Type, name+".")...)
			continue
		}
		keys = append(keys, name)
	}
	return keys
}

func TestEveryConfigurationKeyIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/config.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keysOf(reflect.TypeFor[Config](), "") {
		if !strings.Contains(string(text), "`"+key+"`") {
			t.Errorf("docs/config.md does not have %s", key)
		}
	}
}

func TestTheMetricsTableIsTheMetrics(t *testing.T) {
	text, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("metrics.go")
	if err != nil {
		t.Fatal(err)
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
