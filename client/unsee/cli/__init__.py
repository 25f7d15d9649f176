"""The `unsee` command: its table of subcommands, shared parameters, progress, and `unsee generate`.

A subcommand's module is imported only when it runs.
"""
