"""Writes docs/configuration.md from the settings class: `python -m tests.docker.configuration`."""

from __future__ import annotations

from pathlib import Path

from backend.commands.options import VARIABLES
from backend.settings import FALLBACKS, SettingRow, Settings
from tests.docker.recipes import ROOT

FILE = ROOT / "docs" / "configuration.md"
HEAD = """\
# Configuration

All settings are environment variables; server and workers read the same ones, once, when they start. An
option of `edgetam serve` or `edgetam worker` wins over its variable. Empty counts as not set. A value that
cannot be used ends the start with its name; `edgetam doctor` checks them all. This page is written from
`backend/settings.py` by `python -m tests.docker.configuration`, and a test holds it to that.

A secret is never printed, logged or put into Redis. Give it by the environment of the process (a Secret of
Kubernetes, `docker/.env`), not by an option, which every list of processes shows.

| variable | default | meaning |
|---|---|---|
"""
OTHERS = {
    "OMP_NUM_THREADS": "threads of PyTorch in one process. Where it is not set, `edgetam serve` shares the "
    "cores out among itself and its workers, and a worker of its own takes all: see "
    "[sizing](operations.md#sizing)",
    "EDGETAM_RUNTIME": "who computes: `auto` (for a model on the processor OpenVINO where it is installed, "
    "on macOS Core ML before it; else PyTorch), `torch`, `compiled`, `openvino` or `coreml`",
    "EDGETAM_PRECISION": "`fp32`, or `bf16` where the processor has units for it; `fp16` with `coreml` alone",
    "EDGETAM_THREADS": "threads of OpenVINO in one process; not set: OMP_NUM_THREADS, else one for each core",
    "EDGETAM_QUALITY": "`exact`, or `fast`: published-size weights see half as many pixels each way",
    "TMPDIR": "where long tracks keep their finished frames: a disk, not memory",
    "EDGETAM_WEIGHTS_URL": "a mirror of the published weights; their hash is checked all the same",
    "XDG_CACHE_HOME": "its folder `edgetam` is the default of `EDGETAM_CACHE`",
}
TAIL = "\n## Other variables\n\n| variable | meaning |\n|---|---|\n"


def page() -> str:
    """The whole file."""
    options = {variable: option.replace("_", "-") for option, variable in VARIABLES.items()}
    rows = [_row(row, options.get(row.name, "")) for row in Settings.reference()]
    others = [f"| `{name}` | {meaning} |" for name, meaning in OTHERS.items()]
    return HEAD + "\n".join(rows) + "\n" + TAIL + "\n".join(others) + "\n"


def _row(row: SettingRow, option: str) -> str:
    more = []
    if row.secret:
        more.append("**Secret.**")
    if option:
        more.append(f"Option `--{option}`.")
    if row.name in FALLBACKS:
        more.append(f"Also read: {', '.join(f'`{name}`' for name in FALLBACKS[row.name])}.")
    meaning = " ".join([f"{row.meaning}.", *more]).replace("|", "\\|")
    default = f"`{row.default}`" if row.default else ""
    return f"| `{row.name}` | {default} | {meaning} |"


if __name__ == "__main__":
    Path(FILE).write_text(page())
