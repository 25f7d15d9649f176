"""What serving costs: Triton, the client, a server's needs, and a service under load."""
