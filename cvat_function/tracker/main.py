"""Nuclio's door to the tracker: `main:handler`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from cvat_function.answers import Context, Event, respond
from cvat_function.engine import Engine
from cvat_function.settings import Settings, read_settings
from cvat_function.starting import warm_up
from cvat_function.tracker.state import States, TravellingStates
from cvat_function.tracker.tracker import Tracker


def init_context(context: Context) -> None:
    """Read the settings, and load the model as `warm_up` does.

    Raises:
        InputError: a variable with a wrong value; the deployment fails and says so.
        EdgeTAMError: states in Redis are asked for, and its package is not there.
    """
    settings = read_settings(os.environ)
    engine = Engine(settings)
    context.user_data.tracker = Tracker(engine, open_states(settings, os.environ), context.logger)
    warm_up(engine, context.logger)


def handler(context: Context, event: Event) -> Any:
    """CVAT's request to begin or to follow, see `Tracker`; always JSON, never an exception."""
    return respond(context, event, context.user_data.tracker)


def open_states(settings: Settings, environ: Mapping[str, str]) -> States:
    """Where states are kept between two frames.

    Args:
        settings: `state` says where.
        environ: where Redis is, if it is that.

    Raises:
        InputError, EdgeTAMError: see `redis_states.open_redis`.
    """
    if settings.state == "travel":
        return TravellingStates()
    from cvat_function.tracker.redis_states import open_redis

    return open_redis(environ)
