"""What holds for every test, wherever and however it was started."""

from __future__ import annotations

import signal

from hypothesis import settings

# Property tests have no time limit per example: on a busy machine it fails what is right.
settings.register_profile("project", deadline=None)
settings.load_profile("project")

# Shells start what runs in the background with Ctrl-C ignored, and children inherit that: tests that press it
# would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
