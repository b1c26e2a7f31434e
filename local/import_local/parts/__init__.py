"""The servers of a local installation, one file each: real ones, never imitations."""
