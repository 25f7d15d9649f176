"""Keeps one replica of a service in step with the pointer that many replicas share."""
