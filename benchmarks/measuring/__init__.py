"""What the measuring commands share: bases, processes, clocks, FLOPs and records."""
