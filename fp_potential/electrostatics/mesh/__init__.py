"""The particle mesh: splines, convolution with filters, layout over ranks, accuracy."""
