"""What a browser or Prometheus on this machine finds at http://100.100.100.100/."""
