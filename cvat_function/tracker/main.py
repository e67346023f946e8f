"""Nuclio's door to the tracker: `main:handler`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from cvat_function.answers import Context, Event, respond
from cvat_function.engine import Engine, ModelNotReady
from cvat_function.settings import Settings, read_settings
from cvat_function.tracker.state import States, TravellingStates
from cvat_function.tracker.tracker import Tracker


def init_context(context: Context) -> None:
    """Load the model before the worker takes its first request.

    One that cannot be loaded is logged, and tried again at each request: Nuclio gives up on a worker that
    fails to start, and a network may come up after it.

    Raises:
        InputError: a variable with a wrong value; the deployment fails and says so.
        EdgeTAMError: states in Redis are asked for, and its package is not there.
    """
    settings = read_settings(os.environ)
    engine = Engine(settings)
    context.user_data.tracker = Tracker(engine, open_states(settings, os.environ), context.logger)
    try:
        context.logger.info_with("the model is ready", weights=str(engine.model.weights_info))
    except ModelNotReady as error:
        context.logger.error_with("the model is not ready", error=str(error))


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
