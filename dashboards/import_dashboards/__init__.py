"""Grafana dashboards as code: what each shows (`boards`), their JSON (`grafana`), their picture (`picture`)."""
