"""Reference data: frames of structure files and prepared sets, with labels, units, weights and checks."""
