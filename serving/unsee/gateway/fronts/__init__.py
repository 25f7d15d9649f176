"""The ways into the gateway: gRPC, HTTP with server-sent events, and the page for people."""
