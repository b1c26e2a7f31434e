//go:build tools

// Package tools pins the S3 server that a local installation builds for itself.
package tools

import _ "github.com/versity/versitygw/cmd/versitygw"
