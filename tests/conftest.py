"""What holds for every test, wherever and however it was started."""

from __future__ import annotations

import os
import signal

from hypothesis import settings

# Property tests have no time limit per example: on a busy machine it fails what is right.
settings.register_profile("project", deadline=None)
settings.load_profile("project")

# OpenVINO prepares every model for seconds before it is fast; what it computes is tests/runtime's business.
os.environ.setdefault("EDGETAM_RUNTIME", "torch")

# Shells start what runs in the background with Ctrl-C ignored, and children inherit that: tests that press it
# would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
