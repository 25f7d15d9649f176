"""Clips and their files: formats, the record inside a file, contact sheets, signed provenance."""
