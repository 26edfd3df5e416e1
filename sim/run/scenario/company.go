package scenario

import (
	"cmp"
	"reflect"
	"slices"
	"strings"
)

// company reports what stands in an event of one kind and means nothing there: it would be left out without a word.
func (p *reader) company(path, target string, f eventFile) {
	kind, takes := keysOf(target, f)
	for _, key := range stated(reflect.ValueOf(f)) {
		if !slices.Contains(takes, key) {
			p.add(path+"."+key, "does not go with %s: %s", kind, cmp.Or(onlyWith[key], "give another event for it"))
		}
	}
}

// onlyWith says where keys belong that go with one kind alone.
var onlyWith = map[string]string{
	"one_way": "it is for a link", "by": "it is how far action: skew sets the clock of a node", "flood": "it is for a node", "policy": "it goes with a node alone",
	"joint_loss": "it goes with a node alone, and all that the node sends at one moment is lost",
}

// keysOf names the kind of an event, and the keys that it takes beside its target and its instants.
func keysOf(target string, f eventFile) (kind string, keys []string) {
	switch {
	case target == "partition":
		return target, []string{"for"}
	case target == "node" && f.Policy != "":
		return "policy", []string{"policy"}
	case target == "node" && f.Flood != nil:
		return "flood", []string{"flood", "for"}
	case target == "node" && f.JointLoss != "":
		return "joint_loss", []string{"joint_loss", "for"}
	case target == "node" && f.Action == Skew:
		return "action: skew", []string{"action", "by", "for"}
	case target == "node" && (f.Action == Kill || f.Action == Stop || f.Action == Restart), target == "shared_risk" && f.Action == Down:
		return "action: " + f.Action, []string{"action", "for"}
	case target == "last_mile" && (f.Action == Rebind || f.Action == Handover):
		return "action: " + f.Action, []string{"action"}
	case target == "link":
		keys = []string{"one_way"}
	}
	return target, append(append(keys, "action", "for", "add_delay"), stated(allSettings)...)
}

// allSettings has every setting of a link.
var allSettings = func() reflect.Value {
	all := reflect.New(reflect.TypeFor[linkFile]()).Elem()
	for i := range all.NumField() {
		switch field := all.Field(i); field.Kind() {
		case reflect.Bool:
			field.SetBool(true)
		default:
			field.Set(reflect.ValueOf("stated"))
		}
	}
	return all
}()

// targets and instants are in every event, and are looked at elsewhere.
var targetsAndInstants = []string{"at", "every", "times", "link", "node", "region", "shared_risk", "last_mile", "partition"}

// stated are the keys of a struct of the file that have a value, but for targetsAndInstants.
func stated(v reflect.Value) (keys []string) {
	for i := range v.NumField() {
		key, inline := strings.CutSuffix(v.Type().Field(i).Tag.Get("yaml"), ",inline")
		switch {
		case inline:
			keys = append(keys, stated(v.Field(i))...)
		case !v.Field(i).IsZero() && !slices.Contains(targetsAndInstants, key):
			keys = append(keys, key)
		}
	}
	return keys
}
