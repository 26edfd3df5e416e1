//go:build !linux

package main

// releaseStart is for Linux alone.
func releaseStart() {}
