"""Builds the API reference from the docstrings: `python -m tests.docs.api`, which `make docs` calls.

The pages are those of what others rely on: the public face and the masks. pdoc makes them (the extra `docs`).
"""

from __future__ import annotations

import sys
from pathlib import Path

import edgetam_model
from edgetam_model import masks

OUT = Path(__file__).parent.parent.parent / "build" / "docs"
MODULES = (edgetam_model, masks)


def resolve() -> None:
    """Load every name of the public face: it loads them when they are asked for, and pdoc does not ask."""
    for name in edgetam_model.__all__:
        setattr(edgetam_model, name, getattr(edgetam_model, name))


def build(out: Path = OUT) -> Path:
    """Write the pages; the one to begin with."""
    from pdoc import pdoc, render

    resolve()
    render.configure(docformat="google", show_source=False, footer_text="edgetam-labeling")
    names = [module.__name__ for module in MODULES]
    pdoc(*names, "!edgetam_model\\.(?!masks)", output_directory=out)
    return out / "index.html"


if __name__ == "__main__":
    sys.stdout.write(f"{build()}\n")
