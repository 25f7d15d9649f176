"""Schedulers as the sampling tables that a server needs, and the options that a base sets."""
