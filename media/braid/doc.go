// Package braid placeholder.
package braid
