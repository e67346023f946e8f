"""Property tests have no time limit per example: on a busy machine it fails what is right."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("project", deadline=None)
settings.load_profile("project")
