"""Folders of input files as the published code DeePseudopot takes them, in both of its generations."""
