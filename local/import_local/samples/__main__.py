"""Runs the sample providers as a module."""

from import_local.samples.main import main

main()
