package scenario

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// number splits "50Mbit" into 50 and "Mbit".
func number(s string) (float64, string, error) {
	s = strings.TrimSpace(s)
	end := strings.IndexFunc(s, func(r rune) bool { return !strings.ContainsRune("+-.0123456789eE", r) || r == 'e' || r == 'E' })
	if end < 0 {
		end = len(s)
	}
	v, err := strconv.ParseFloat(s[:end], 64)
	if err != nil || math.IsInf(v, 0) || math.IsNaN(v) {
		return 0, "", fmt.Errorf("%q is not a number with a unit", s)
	}
	return v, strings.TrimSpace(s[end:]), nil
}

// parseDuration is time.ParseDuration with days, without negative values, and with a hint when the unit is missing.
func parseDuration(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		v, err := strconv.ParseFloat(days, 64)
		if err == nil && v >= 0 && v < 1000 {
			return time.Duration(v * float64(24*time.Hour)), nil
		}
	}
	d, err := time.ParseDuration(s)
	switch _, unit, numErr := number(s); {
	case err == nil && d < 0:
		return 0, fmt.Errorf("%s is negative", s)
	case err == nil && s != "0":
		return d, nil
	case numErr == nil && unit == "":
		return 0, fmt.Errorf("%s has no unit: write %sms or %ss", s, s, s)
	}
	return 0, fmt.Errorf("%q is not a time: write for example 40ms, 20s, 5m, 1h30m or 1d", s)
}

// parseShare reads 0.1% as 0.001.
func parseShare(s string) (float64, error) {
	v, unit, err := number(s)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q is not a share: write for example 0.1%%", s)
	case unit == "" && v > 1:
		return 0, fmt.Errorf("%s has no unit: write %s%%", s, s)
	case unit == "":
		return 0, fmt.Errorf("%s has no unit: write %s%%, or %s%% if you mean the share %s", s, s, strconv.FormatFloat(v*100, 'g', 6, 64), s)
	case unit != "%":
		return 0, fmt.Errorf("%q is not a share: the only unit is %%", s)
	case v < 0 || v > 100:
		return 0, fmt.Errorf("%s is not between 0%% and 100%%", s)
	}
	return v / 100, nil
}

// multiples are decimal prefixes, as networks count.
var multiples = map[string]float64{"": 1, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}

// parseRate reads bit/s: 50Mbit, 50Mbit/s, 50Mbps, 1Gbit.
func parseRate(s string) (int64, error) {
	v, unit, err := number(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a rate: write for example 50Mbit", s)
	}
	base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(unit, "/s"), "bps"), "bit")
	factor, ok := multiples[base]
	switch {
	case unit == "":
		return 0, fmt.Errorf("%s has no unit: write %sMbit or %skbit", s, s, s)
	case !ok || base == unit:
		return 0, fmt.Errorf("%q is not a rate: units are bit, kbit, Mbit, Gbit (per second)", s)
	case v <= 0 || v*factor > 1e13:
		return 0, fmt.Errorf("%s is not between 1bit and 10Tbit", s)
	}
	return int64(v * factor), nil
}

// parseQueue reads a time at the rate, or bytes: 100ms, 64kB, 65536B.
func parseQueue(s string, rate int64) (int, error) {
	v, unit, err := number(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a queue: write a time (100ms) or bytes (64kB)", s)
	}
	if base, bytes := strings.CutSuffix(unit, "B"); bytes {
		factor, ok := multiples[base]
		if !ok || v <= 0 || v*factor > 1<<31 {
			return 0, fmt.Errorf("%q is not a number of bytes", s)
		}
		return int(v * factor), nil
	}
	d, err := parseDuration(s)
	switch {
	case unit == "":
		return 0, fmt.Errorf("%s has no unit: write %sms or %skB", s, s, s)
	case err != nil:
		return 0, err
	case rate <= 0:
		return 0, fmt.Errorf("%s is a time at the link's rate, and the link has no rate: set rate, or give bytes", s)
	}
	return max(1, int(float64(rate)/8*d.Seconds())), nil
}

// parseBytes reads 1400 or 1400B.
func parseBytes(s string) (int, error) {
	v, unit, err := number(s)
	if err != nil || unit != "" && unit != "B" || v != math.Trunc(v) || v < 68 || v > 65535 {
		return 0, fmt.Errorf("%q is not a packet size of 68 to 65535 bytes", s)
	}
	return int(v), nil
}
