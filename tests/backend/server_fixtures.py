"""A server of untrained weights over twins of what is not its own: a queue in memory, and a video service."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from backend.access import Access
from backend.answers import Answers
from backend.gate import Gate
from backend.images import ImageLimits, ImageService
from backend.jobs import Enqueued, Gathering, JobOptions, JSONDict, QueueStats, WorkerStatus
from backend.label_config import LabelConfig
from backend.loading import BackgroundModel
from backend.media import MediaIntake
from backend.project_models import ModelOptions, ProjectModels, Serving, version_store
from backend.protocol import Projects
from backend.rates import MemoryBuckets
from backend.services import Services
from backend.settings import Settings
from edgetam_model import CONFIGS, EdgeTAM, EdgeTAMError, VersionName, load_model

IMAGE_CONFIG = """
<View>
  <Image name="image" value="$image"/>
  <BrushLabels name="brush" toName="image" smart="false"><Label value="A"/><Label value="B"/></BrushLabels>
  <RectangleLabels name="out" toName="image" smart="false"><Label value="A"/></RectangleLabels>
  <KeyPointLabels name="kp" toName="image" smart="true"><Label value="A"/><Label value="B"/></KeyPointLabels>
  <RectangleLabels name="rect" toName="image" smart="true"><Label value="A"/></RectangleLabels>
</View>
"""
VIDEO_CONFIG = """
<View>
  <Labels name="videoLabels" toName="video"><Label value="Player"/></Labels>
  <Labels name="act" toName="video"><Label value="Track" hotkey="t"/></Labels>
  <Video name="video" value="$video" frameRate="25"/>
  <VideoRectangle name="box" toName="video"/>
</View>
"""


@functools.cache
def tiny() -> EdgeTAM:
    """An untrained model that answers within milliseconds, and calls every object present."""
    torch.manual_seed(0)
    model = EdgeTAM(CONFIGS["tiny"]).eval()
    model.state_dict()["sam_mask_decoder.pred_obj_score_head.layers.2.bias"].fill_(1.0)
    return model


@dataclass
class MemoryQueue:
    """The in-memory twin of the queue, as far as the server itself uses it."""

    calls: list[tuple[str, JSONDict, Gathering, tuple[str, ...]]] = field(default_factory=list)
    failure: EdgeTAMError | None = None

    def gather(
        self,
        kind: str,
        payload: JSONDict,
        gathering: Gathering,
        things: Sequence[str] = (),
        options: JobOptions | None = None,
    ) -> Enqueued:
        if self.failure:
            raise self.failure
        self.calls.append((kind, payload, gathering, tuple(things)))
        return Enqueued(f"job-{len(self.calls)}", created=True)

    def stats(self) -> QueueStats:
        if self.failure:
            raise self.failure
        none: Any = {"interactive": 2, "batch": 0, "fit": 0}
        return QueueStats(none, dict.fromkeys(none, 0.5), 1, {("track", "done"): 3}, 1)

    def workers(self) -> list[WorkerStatus]:
        return [WorkerStatus('w"1', "host", 7, ("interactive",), "job", 12.5, 0.0)]


@dataclass
class MemoryVideo:
    """A video service that remembers what it was asked."""

    asked: list[tuple[Mapping[str, Any], Any, str | None, bool]] = field(default_factory=list)
    served: list[Serving] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)
    failure: Exception | None = None

    def answer(
        self,
        task: Mapping[str, Any],
        context: Any,
        config: LabelConfig,
        serving: Serving,
        *,
        hostname: str | None,
        interactive: bool,
    ) -> dict[str, Any]:
        self.served.append(serving)
        self.asked.append((task, context, hostname, interactive))
        if self.failure:
            raise self.failure
        return {"results": self.results}


def ready_model() -> BackgroundModel:
    model = BackgroundModel(tiny)
    model.get(60)
    return model


def models_of(
    settings: Settings, model: BackgroundModel | None = None, options: ModelOptions | None = None
) -> ProjectModels:
    """The models of these settings, over an untrained one."""
    store = version_store(settings)

    def load(name: VersionName) -> EdgeTAM:
        return load_model(store.weights_file(name), "cpu").fuse()

    return ProjectModels(model or ready_model(), store, load, options)


def settings_in(folder: Path, **more: str) -> Settings:
    """Settings whose images lie in a folder; decoded here, as a process apart takes 0.2 s to start."""
    here = {
        "EDGETAM_MEDIA_ROOTS": str(folder),
        "EDGETAM_CACHE": str(folder / "cache"),
        "EDGETAM_DECODE": "inside",
    }
    return Settings.from_env(here | more)


def services_in(
    folder: Path,
    *,
    limits: ImageLimits | None = None,
    model: BackgroundModel | None = None,
    queue: MemoryQueue | None = None,
    video: MemoryVideo | None = None,
    **variables: str,
) -> Services:
    settings = settings_in(folder, **variables)
    models = models_of(settings, model)
    images = ImageService(settings, MediaIntake(settings, None), limits)
    projects = Projects()
    return Services(
        settings=settings,
        gate=Gate.from_settings(settings, Access.from_settings(settings), MemoryBuckets()),
        models=models,
        images=images,
        answers=Answers(images, video or MemoryVideo(), projects, models),
        queue=queue or MemoryQueue(),
        projects=projects,
    )


def picture(path: Path, width: int = 64, height: int = 40, seed: int = 0) -> str:
    """An image file; returns what a task says of it."""
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path.name


def click(x: float, y: float, name: str = "k", label: str = "A", **more: Any) -> dict[str, Any]:
    value = {"x": x, "y": y, "width": 0.5, "keypointlabels": [label]}
    return {
        "id": name,
        "type": "keypointlabels",
        "from_name": "kp",
        "to_name": "image",
        "value": value,
        **more,
    }


def box(x: float, y: float, w: float, h: float, name: str = "r", label: str = "A") -> dict[str, Any]:
    value = {"x": x, "y": y, "width": w, "height": h, "rotation": 0, "rectanglelabels": [label]}
    return {"id": name, "type": "rectanglelabels", "from_name": "rect", "to_name": "image", "value": value}


def image_task(name: str, *regions: dict[str, Any], number: int = 1) -> dict[str, Any]:
    """A task with an annotation of these regions, if there are any."""
    annotations = [{"id": 10 + number, "result": list(regions)}] if regions else []
    return {"id": number, "data": {"image": name}, "annotations": annotations, "predictions": []}


def predict_body(*tasks: Any, config: str = IMAGE_CONFIG, context: Any = None) -> dict[str, Any]:
    """As Label Studio sends it."""
    params = {"login": None, "password": None, "context": context}
    return {"tasks": list(tasks), "project": "7.1700000000", "label_config": config, "params": params}
