package node

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/ternmesh/tern/control/document"
)

// envPrefix starts the name of every override.
const envPrefix = "TERN_"

// clientVariables are read by the commands that talk to a node, not by the node.
var clientVariables = []string{"TERN_ADMIN", "TERN_ADMIN_TOKEN_FILE", "TERN_ADMIN_CA"}

// override sets the keys that TERN_* variables name. Lists take commas. A TERN_ variable that names no key
// is an error, so that a misspelt one does not go unnoticed.
func override(c *Config, environ []string) error {
	fields := make(map[string]reflect.Value)
	for _, l := range leaves(reflect.ValueOf(c).Elem(), "") {
		fields[envPrefix+strings.ToUpper(strings.ReplaceAll(l.key, ".", "_"))] = l.value
	}
	var errs []error
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, envPrefix) || slices.Contains(clientVariables, name) {
			continue
		}
		f, ok := fields[name]
		if !ok {
			errs = append(errs, fmt.Errorf("environment: %s names no key%s", name, suggest(name, fields)))
			continue
		}
		if err := setField(f, value); err != nil {
			errs = append(errs, fmt.Errorf("environment: %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

func setField(f reflect.Value, value string) error {
	switch f.Kind() {
	case reflect.String:
		f.SetString(value)
	case reflect.Bool:
		b, err := strconv.ParseBool(value)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", value)
		}
		f.SetBool(b)
	case reflect.Int:
		n, err := strconv.Atoi(value)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", value)
		}
		f.SetInt(int64(n))
	case reflect.Float64:
		x, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return fmt.Errorf("%q is not a number", value)
		}
		f.SetFloat(x)
	case reflect.Slice:
		var list []string
		for _, s := range strings.Split(value, ",") {
			if s = strings.TrimSpace(s); s != "" {
				list = append(list, s)
			}
		}
		f.Set(reflect.ValueOf(list))
	default:
		return fmt.Errorf("cannot be set from the environment")
	}
	return nil
}

func suggest(name string, fields map[string]reflect.Value) string {
	names := make([]string, 0, len(fields))
	for n := range fields {
		names = append(names, n)
	}
	sort.Strings(names)
	if best := document.Nearest(name, names); best != "" {
		return ", did you mean " + best + "?"
	}
	return ""
}
