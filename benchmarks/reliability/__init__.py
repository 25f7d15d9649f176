"""What swaps, killed processes, malformed requests and lost replicas do to a service."""
