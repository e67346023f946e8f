"""The model in the background: what is known of it when."""

from __future__ import annotations

import threading

import pytest

from backend.loading import UNKNOWN_VERSION, BackgroundModel, ModelNotReady, version_of
from edgetam_model import EdgeTAM, WeightsError
from tests.backend.server_fixtures import tiny


def test_weights_are_known_while_the_model_is_prepared() -> None:
    release = threading.Event()

    def prepare(model: EdgeTAM) -> EdgeTAM:
        release.wait(20)
        return model

    model = BackgroundModel(tiny, prepare)
    assert model.version == UNKNOWN_VERSION
    mark = model.fingerprint(20)
    assert mark == tiny().fingerprint()
    assert model.state == "loading"
    with pytest.raises(ModelNotReady, match="prepared for this machine"):
        model.get(0.01)
    marked = model.version
    release.set()
    assert model.get(20).fingerprint() == mark
    assert (model.state, model.version) == ("ready", marked)
    assert marked == version_of(model.get(1))


def test_a_model_that_cannot_be_prepared_says_why() -> None:
    def prepare(_model: EdgeTAM) -> EdgeTAM:
        raise WeightsError("the graph cannot be written")

    model = BackgroundModel(tiny, prepare)
    with pytest.raises(ModelNotReady, match="cannot be written"):
        model.get(20)
    assert (model.state, model.problem) == (
        "failed",
        "the model cannot be loaded: the graph cannot be written",
    )


def test_weights_that_cannot_be_loaded_are_waited_for_by_nobody() -> None:
    def load() -> EdgeTAM:
        raise WeightsError("no such weights")

    model = BackgroundModel(load, lambda model: model)
    for ask in (model.fingerprint, model.get):
        with pytest.raises(ModelNotReady, match="no such weights"):
            ask(20)
    assert model.version == UNKNOWN_VERSION
