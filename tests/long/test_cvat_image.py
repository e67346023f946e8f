"""The image's install commands in a bare environment, and both functions at work in what comes of them.

The lock names a CPU build of PyTorch, so pip must be told where it lies: by TORCH_INDEX as for the image, or
by PIP_FIND_LINKS.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import venv
from pathlib import Path

import pytest

from tests.cvat_function.deployment import FUNCTIONS, ROOT, copied, ran

pytestmark = pytest.mark.slow

# As Nuclio's wrapper starts a function and sends it a request.
START = """
import base64, io, json, sys
import nuclio_sdk
from PIL import Image
from nuclio_sdk.event import EventDeserializerKinds
import cvat_function, main
assert "source" not in cvat_function.__file__, cvat_function.__file__
logger = nuclio_sdk.Logger(20)
logger.set_handler("default", sys.stderr, nuclio_sdk.logger.JSONFormatter())
platform = nuclio_sdk.Platform("local", namespace="nuclio")
context = nuclio_sdk.Context(logger, platform, 0, nuclio_sdk.TriggerInfo("http", "t"))
main.init_context(context)
file = io.BytesIO()
Image.radial_gradient("L").save(file, "PNG")
request = {"image": base64.b64encode(file.getvalue()).decode()} | json.loads(sys.argv[1])
names = ("id", "method", "path", "url", "type", "type_version", "version")
numbers = ("size", "timestamp", "shard_id", "num_shards")
event = {"body": json.dumps(request).encode(), "content_type": "application/json", "fields": {},
    "headers": {}, "trigger": {"kind": "http", "name": "t"}}
event |= dict.fromkeys(names, "") | dict.fromkeys(numbers, 0)
answer = main.handler(context, nuclio_sdk.Event.deserialize(event, kind=EventDeserializerKinds.msgpack))
print(answer.status_code, *json.loads(answer.body))
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image's file system below a folder: what was copied, and `bin` with its Python."""
    root = tmp_path_factory.mktemp("image")
    venv.create(root / "usr", with_pip=True)
    for sources, target in copied():
        place = root / target.removeprefix("/")
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                (place if target.endswith("/") else place.parent).mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, place)
    for command in ran():
        if "pip install" in command:
            index = os.environ.get("TORCH_INDEX", "")
            moved = command.replace("/opt/edgetam", f"{root}/opt/edgetam")
            inside(root, ["sh", "-ec", moved], TORCH_INDEX=index)
    return root


def inside(image: Path, command: list[str], **env: str) -> str:
    """Run with the image's programs and nothing of this environment's packages; the output."""
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    path = f"{image}/usr/bin:/usr/bin:/bin"
    done = subprocess.run(
        command,
        cwd=image,
        env=clean | {"PATH": path, "EDGETAM_OFFLINE": "1", "EDGETAM_CACHE": f"{image}/cache"} | env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_the_command_line_is_there(image: Path) -> None:
    assert "edgetam" in inside(image, ["edgetam", "weights", "list"])


def test_nuclio_finds_its_sdk_without_an_index(image: Path) -> None:
    command = "python -m pip install nuclio-sdk msgpack --no-index --find-links /nowhere"
    assert "already satisfied" in inside(image, command.split())


@pytest.mark.parametrize(
    ("kind", "request_", "answer"),
    [
        ("interactor", {"pos_points": [[128, 128]], "neg_points": [], "obj_bbox": None}, "200 mask"),
        ("tracker", {"shapes": [{"type": "rectangle", "points": [60, 60, 190, 190]}]}, "200 shapes states"),
    ],
)
def test_a_function_starts_and_answers(image: Path, kind: str, request_: object, answer: str) -> None:
    handler = image / "opt" / "nuclio" / kind
    shutil.copytree(FUNCTIONS / kind, handler)
    command = ["python", "-c", START, json.dumps(request_)]
    assert inside(image, command, PYTHONPATH=str(handler), EDGETAM_WEIGHTS="default").strip() == answer
