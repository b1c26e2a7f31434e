"""Connections and schedules in a folder of files, where there is no Kubernetes."""
