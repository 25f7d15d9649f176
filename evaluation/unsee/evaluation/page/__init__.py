"""`report.html`: the report as one self-contained page for a reader."""
