"""Verbs of the command line that serve Label Studio."""
