//go:build !linux

package main

// releaseCode is for Linux alone.
func releaseCode() {}
