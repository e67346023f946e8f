"""The class over bases of both shapes, and, as tests/platforms runs this file again, over the real 1.0.9."""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgetam_model import InputError
from tests.backend.server_fixtures import (
    IMAGE_CONFIG,
    MemoryQueue,
    box,
    click,
    image_task,
    picture,
    services_in,
)
from tests.backend.version_fixtures import line_of


class Old:
    """As in 1.0.9."""

    def __init__(self, label_config: Any = None, train_output: Any = None, **kwargs: Any) -> None:
        self.label_config = label_config


class New:
    """As in 2.x."""

    def __init__(self, project_id: Any = None, label_config: Any = None) -> None:
        self.kept: dict[str, Any] = {}
        self.setup()

    def set(self, key: str, value: Any) -> None:
        self.kept[key] = value

    def setup(self) -> None:
        raise NotImplementedError


def module_over(base: type, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    package, model = ModuleType("label_studio_ml"), ModuleType("label_studio_ml.model")
    model.LabelStudioMLBase = base  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "label_studio_ml", package)
    monkeypatch.setitem(sys.modules, "label_studio_ml.model", model)
    return imported(monkeypatch)


def imported(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.delitem(sys.modules, "backend.ls_backend", raising=False)
    found = importlib.import_module("backend.ls_backend")
    monkeypatch.setitem(sys.modules, "backend.ls_backend", found)  # and forgotten after the test
    return found


INSTALLED = ["real"] if find_spec("label_studio_ml") else []


@pytest.fixture(params=["old", "new", *INSTALLED])
def module(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    if request.param == "real":
        return imported(monkeypatch)
    return module_over(Old if request.param == "old" else New, monkeypatch)


@pytest.fixture
def queue(tmp_path: Path, module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> MemoryQueue:
    picture(tmp_path / "a.png")
    queue = MemoryQueue()
    services = services_in(tmp_path, queue=queue)
    monkeypatch.setattr(module, "services", lambda: services)
    monkeypatch.setattr(module, "job_queue", lambda: queue)
    return queue


def test_a_click_and_a_batch(module: ModuleType, queue: MemoryQueue) -> None:
    made = module.EdgeTAMBackend(label_config=IMAGE_CONFIG)
    context = {"result": [click(50, 50)]}
    (one,) = made.predict([image_task("a.png")], context=context, login=None, password=None)
    assert one["result"][0]["type"] == "brushlabels"
    batch = [image_task("a.png", box(10, 10, 50, 50)), image_task("a.png")]
    assert [bool(entry) for entry in made.predict(batch)] == [True, False]
    assert made.predict([image_task("a.png")]) == []


def test_wrong_calls_name_the_field(module: ModuleType, queue: MemoryQueue) -> None:
    made = module.EdgeTAMBackend(label_config=IMAGE_CONFIG)
    with pytest.raises(InputError, match=r"tasks\.0"):
        made.predict(["x"])
    with pytest.raises(InputError, match="context"):
        made.predict([image_task("a.png")], context=[1])
    for tasks in (None, "x", [image_task("a.png")] * 1001):
        with pytest.raises(InputError, match="tasks"):
            made.predict(tasks)


def test_what_setup_says_is_remembered(module: ModuleType, queue: MemoryQueue) -> None:
    module.EdgeTAMBackend(label_config=IMAGE_CONFIG, hostname="http://ls", access_token="t", train_output={})
    known = module.services().projects.of("")
    assert known.hostname == "http://ls"
    assert known.token is not None


def test_events_are_kept_in_every_way_of_calling(module: ModuleType, queue: MemoryQueue) -> None:
    made = module.EdgeTAMBackend(label_config=IMAGE_CONFIG)
    data = {"project": {"id": 7}, "annotation": {"id": 5}}
    assert made.fit("ANNOTATION_CREATED", data, extra=1) == {"job_id": "job-1"}
    assert made.fit((), None, event="ANNOTATION_UPDATED", data=data, job_id="j") == {"job_id": "job-2"}
    assert made.fit(event="START_TRAINING", data=data, job_id="j") == {"job_id": "job-3"}
    assert made.fit(()) == {}
    assert made.fit("TASKS_CREATED", data) == {}
    assert [payload for _, payload, *_ in queue.calls] == [{"project": 7}] * 3


def test_all_events_that_label_studio_sends_reach_fit(module: ModuleType, queue: MemoryQueue) -> None:
    wanted = {"ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED", "START_TRAINING"}
    assert wanted <= set(module.EdgeTAMBackend.TRAIN_EVENTS)


def test_an_event_needs_no_model(
    module: ModuleType, queue: MemoryQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never() -> None:
        raise AssertionError("the services were asked for")

    made = module.EdgeTAMBackend(label_config=IMAGE_CONFIG)
    monkeypatch.setattr(module, "services", never)
    assert made.fit("START_TRAINING", {"project": {"id": 7}}) == {"job_id": "job-1"}


def test_the_version_is_told_to_2x(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = module_over(New, monkeypatch)
    services = services_in(tmp_path)
    monkeypatch.setattr(module, "services", lambda: services)
    made = module.EdgeTAMBackend("7", label_config=IMAGE_CONFIG)
    assert made.kept == {"model_version": services.model.version}


def test_a_projects_own_version_serves_it(module: ModuleType, queue: MemoryQueue) -> None:
    """1.0.9 tells no project, but its tasks do; 2.x tells both."""
    models = module.services().models
    line_of(models.store, 1)
    task, context = image_task("a.png") | {"project": 7}, {"result": [click(50, 50)]}
    (one,) = module.EdgeTAMBackend(label_config=IMAGE_CONFIG).predict([task], context=context)
    assert one["model_version"] == models.serving("7").version != models.base.version
    made = module.EdgeTAMBackend("7", label_config=IMAGE_CONFIG)
    assert getattr(made, "kept", {}).get("model_version", one["model_version"]) == one["model_version"]
    assert made.predict([image_task("a.png")], context=context)[0]["model_version"] == one["model_version"]


def test_without_the_package_the_line_to_install_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "label_studio_ml", None)
    monkeypatch.setitem(sys.modules, "label_studio_ml.model", None)
    with pytest.raises(ImportError, match="pip install"):
        imported(monkeypatch)
