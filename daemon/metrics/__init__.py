"""Which figures does the daemon export to Prometheus, and how does Grafana show them?"""
