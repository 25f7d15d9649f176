"""The report's schema, its statistics and the verdict against a policy's thresholds.

Light: the gate reads reports with this package and pydantic alone.
"""
