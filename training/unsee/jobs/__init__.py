"""The commands `unsee unlearn` and `unsee delta`: from a list of concepts to delta folders."""
