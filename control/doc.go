// Package control agrees on the mesh's policy.
package control
