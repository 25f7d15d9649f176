"""The weight files of a component: which are read, whether they fit, conversion, precision."""
