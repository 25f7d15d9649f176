"""What a tuned encoder forgot and what it kept: questions, recognition, attacks and the report.

Import from the modules. `report` is light (pydantic alone); the others need the extra `evaluate`.
"""
