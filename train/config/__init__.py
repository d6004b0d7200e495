"""Reading of training files and the manual of their options, for any root section."""
