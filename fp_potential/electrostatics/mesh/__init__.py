"""The particle mesh: B-splines, convolution with filters, the layout over ranks, and the mesh for an accuracy."""
