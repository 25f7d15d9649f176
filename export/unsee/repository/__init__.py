"""The model repository: its pointer, its audit log, its archive, and whether its files are whole.

Light: pydantic and the standard library.
"""
