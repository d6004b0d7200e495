"""Geometry -> equivariant features h_i: the MACE family in plain torch."""
