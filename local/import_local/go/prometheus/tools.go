//go:build tools

// Package tools pins the Prometheus that tests build for themselves where none is installed.
package tools

import (
	_ "github.com/prometheus/prometheus/cmd/prometheus"
	_ "github.com/prometheus/prometheus/cmd/promtool"
)
