package main

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// writable finds out whether what a long run reports can be written, before the run and not after it: into a folder, which is made,
// and to files. Empty names and -, the standard output, are passed over.
func writable(folder string, files ...string) error {
	var errs []error
	if folder != "" {
		errs = append(errs, os.MkdirAll(folder, 0o755))
	}
	for _, file := range files {
		if file == "" || file == "-" {
			continue
		}
		out, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE, 0o644)
		if err == nil {
			err = out.Close()
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("the report cannot be written: %w", err)
	}
	return nil
}

// writeUnlessEmpty writes to the file, to standard output for -, nowhere for "".
func writeUnlessEmpty(file string, write func(io.Writer) error) error {
	if file == "" {
		return nil
	}
	return writeTo(file, write)
}

func writeTo(file string, write func(io.Writer) error) error {
	if file == "-" {
		return write(os.Stdout)
	}
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(write(out), out.Close())
}
