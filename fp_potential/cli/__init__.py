"""The command ``fixedpoint``."""
