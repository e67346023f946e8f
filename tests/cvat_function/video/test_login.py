"""Where credentials come from, and that they show nowhere."""

from __future__ import annotations

import pytest

from cvat_function.video.login import login_of
from edgetam_model import InputError


def test_options_go_before_the_environment() -> None:
    environ = {"CVAT_HOST": "http://a", "CVAT_USERNAME": "ann", "CVAT_ORG": "lab", "CVAT_PASSWORD": "p"}
    login = login_of(environ, server="http://b", organization="")
    assert (login.server, login.user, login.organization, login.password) == ("http://b", "ann", "", "p")
    assert login_of(environ).server == "http://a"


def test_a_token_goes_before_a_user_of_the_environment_but_not_of_the_command_line() -> None:
    environ = {"CVAT_ACCESS_TOKEN": "t", "CVAT_USERNAME": "ann", "PASS": "p"}
    assert login_of(environ).token == "t"
    login = login_of(environ, user="bob")
    assert (login.token, login.user, login.password) == (None, "bob", "p")


def test_secrets_do_not_show() -> None:
    login = login_of({"CVAT_ACCESS_TOKEN": "token-x", "CVAT_PASSWORD": "password-y"})
    assert "token-x" not in repr(login)
    assert "password-y" not in repr(login)


@pytest.mark.parametrize(("user", "server"), [("ann:secret", None), (None, "http://ann:secret@host")])
def test_secrets_on_the_command_line_are_refused_and_not_repeated(
    user: str | None, server: str | None
) -> None:
    with pytest.raises(InputError) as caught:
        login_of({}, user=user, server=server)
    assert "secret" not in str(caught.value)
