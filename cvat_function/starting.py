"""How a Nuclio worker begins."""

from __future__ import annotations

from cvat_function.answers import Logger
from cvat_function.engine import Engine, ModelNotReady


def warm_up(engine: Engine, logger: Logger) -> None:
    """Load the model before the worker takes its first request.

    One that cannot be loaded is logged, and tried again at each request: Nuclio gives up on a worker that
    fails to start, and a network may come up after it.
    """
    try:
        logger.info_with("the model is ready", weights=str(engine.model.weights_info))
    except ModelNotReady as error:
        logger.error_with("the model is not ready", error=str(error))
