"""Nuclio's door to the interactor: `main:handler`."""

from __future__ import annotations

import os
from typing import Any

from cvat_function.answers import Context, Event, respond
from cvat_function.engine import Engine, ModelNotReady
from cvat_function.interactor.interactor import Interactor
from cvat_function.settings import read_settings


def init_context(context: Context) -> None:
    """Load the model before the worker takes its first request.

    One that cannot be loaded is logged, and tried again at each request: Nuclio gives up on a worker that
    fails to start, and a network may come up after it.

    Raises:
        InputError: a variable with a wrong value; the deployment fails and says so.
    """
    engine = Engine(read_settings(os.environ))
    context.user_data.interactor = Interactor(engine)
    try:
        context.logger.info_with("the model is ready", weights=str(engine.model.weights_info))
    except ModelNotReady as error:
        context.logger.error_with("the model is not ready", error=str(error))


def handler(context: Context, event: Event) -> Any:
    """CVAT's request for a mask, see `Interactor`; always JSON, never an exception."""
    return respond(context, event, context.user_data.interactor)
