"""The fixed-point loop of any map: mixing, linear solves, implicit derivatives, spectrum and diagnosis."""
