"""Silence for converters, which speak of their own affairs: newer packages, deprecations, no Mac."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

LOGGERS = ("coremltools", "torch.onnx", "onnxscript", "onnx_ir")


@contextmanager
def quiet(*, bars: bool = False) -> Iterator[None]:
    """No log lines below errors, no deprecations; `bars` also drops what goes to stderr."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for kind in (FutureWarning, DeprecationWarning, RuntimeWarning, ResourceWarning):
                warnings.simplefilter("ignore", kind)
            if bars:
                with redirect_stderr(io.StringIO()):
                    yield
            else:
                yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
