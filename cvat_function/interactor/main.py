"""Nuclio's door to the interactor: `main:handler`."""

from __future__ import annotations

import os
from typing import Any

from cvat_function.answers import Context, Event, respond
from cvat_function.engine import Engine
from cvat_function.interactor.interactor import Interactor
from cvat_function.settings import read_settings
from cvat_function.starting import warm_up


def init_context(context: Context) -> None:
    """Read the settings, and load the model as `warm_up` does.

    Raises:
        InputError: a variable with a wrong value; the deployment fails and says so.
    """
    engine = Engine(read_settings(os.environ))
    context.user_data.interactor = Interactor(engine)
    warm_up(engine, context.logger)


def handler(context: Context, event: Event) -> Any:
    """CVAT's request for a mask, see `Interactor`; always JSON, never an exception."""
    return respond(context, event, context.user_data.interactor)
