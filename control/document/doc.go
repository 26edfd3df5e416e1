// Package document decodes YAML (and so JSON) documents that people write: the node's configuration,
// the policy, scenarios. It is strict and helpful: every unknown key is reported with its line and the nearest key
// that exists, all of them at once, before any value is looked at.
//
//	decode.go    Decode: keys checked against the struct's yaml tags, then goccy/go-yaml fills the struct
//	nearest.go   the nearest name by edit distance
//
// Pure: no I/O, no state. It does not check values; that is the business of whoever owns the struct.
package document
