"""The commands `unsee unlearn`, `base`, `delta` and `apply`: from concepts to delta folders."""
