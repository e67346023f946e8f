from __future__ import annotations

import re

from backend.settings import Settings
from tests.docker.configuration import FILE, page
from tests.docker.recipes import ROOT


def test_the_reference_is_what_the_settings_say() -> None:
    assert FILE.read_text() == page(), "run `python -m tests.docker.configuration`"


def test_secrets_are_marked() -> None:
    marked = {row.name for row in Settings.reference() if row.secret}
    assert marked >= {"REDIS_URL", "EDGETAM_TOKEN", "BASIC_AUTH_PASS", "LABEL_STUDIO_API_KEY"}
    assert "PORT" not in marked
    rows = [line for line in page().splitlines() if "**Secret.**" in line]
    assert len(rows) == len(marked)


def test_documents_name_no_variable_that_does_not_exist() -> None:
    known = set(re.findall(r"`([A-Z_]+)`", page()))
    known |= set(re.findall(r"^([A-Z_]+)=", (ROOT / "docker" / "env.example").read_text(), re.MULTILINE))
    for name in ("operations.md", "upgrading.md"):
        found = set(
            re.findall(
                r"\b(?:EDGETAM|LABEL_STUDIO|REDIS|BASIC_AUTH)_[A-Z_]+\b", (ROOT / "docs" / name).read_text()
            )
        )
        assert found <= known | {"LABEL_STUDIO_ML_BLOCK_LOCAL_IP", "LABEL_STUDIO_SSRF_PROTECTION_ENABLED"}, (
            name
        )
