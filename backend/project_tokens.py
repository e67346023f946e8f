"""The tokens of single projects, as they are written down: `7=TOKEN,9=TOKEN`, or a file with one a line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, SecretStr
from pydantic_core import PydanticCustomError

ENTRY = re.compile(r"([1-9][0-9]{0,17})=([!-+\--~]+)")  # the token: visible ASCII but the comma


def parse_project_tokens(value: object) -> object:
    """Text as a dict of tokens by numbers of projects; what is one already stays one.

    Raises:
        PydanticCustomError: another form, a project or a token twice; nothing of it is repeated.
    """
    if not isinstance(value, str):
        return value
    tokens: dict[str, str] = {}
    for line in filter(None, (part.strip() for part in re.split("[,\n]", _text_of(value)))):
        entry = ENTRY.fullmatch(line)
        if entry is None:
            raise PydanticCustomError("token", "expected NUMBER=TOKEN, the token without spaces")
        if entry[1] in tokens or entry[2] in tokens.values():
            raise PydanticCustomError("token", "expected each project and each token once")
        tokens[entry[1]] = entry[2]
    return tokens


def _text_of(value: str) -> str:
    if not value.startswith("@"):
        return value
    try:
        return Path(value[1:]).expanduser().read_text(encoding="ascii")
    except (OSError, ValueError) as error:
        raise PydanticCustomError("file", "the file behind @ cannot be read as text") from error


ProjectTokens = Annotated[dict[str, SecretStr], BeforeValidator(parse_project_tokens)]
