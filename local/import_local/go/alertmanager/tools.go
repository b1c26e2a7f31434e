//go:build tools

// Package tools pins the Alertmanager that tests build for themselves where none is installed.
package tools

import (
	_ "github.com/prometheus/alertmanager/cmd/alertmanager"
	_ "github.com/prometheus/alertmanager/cmd/amtool"
)
