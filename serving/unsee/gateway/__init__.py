"""The gateway before a loopback-only Triton: who may ask for what, how much at once, and a record.

A request goes through one core that knows no transport (`core`): the caller is known
(`credentials`), may do what it asks (`permission`), gets its turn (`admission`) and a stream from
Triton (`upstream`). `grpc_front` and `http_front` are two thin ways into it.
"""
