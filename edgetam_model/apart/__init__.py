"""Decoding in child processes that may do little else: what a file breaks, it breaks there.

`source` and `images` are the doors; `decoder` starts a child and talks to it, `child` is what runs there.
"""
