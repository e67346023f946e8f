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


@pytest.mark.parametrize(
    ("user", "server", "host"),
    [
        ("ann:secret", None, ""),
        (None, "http://ann:secret@host", ""),
        (None, None, "http://ann:secret@host"),
    ],
)
def test_secrets_on_the_command_line_or_in_an_address_are_refused_and_not_repeated(
    user: str | None, server: str | None, host: str
) -> None:
    with pytest.raises(InputError) as caught:
        login_of({"CVAT_HOST": host}, user=user, server=server)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "not a url",
        "http://",
        "https:///x",
        "ftp://host",
        "http://host:abc",
        "http://host:99999",
        "host:0",
        "http://[::1",
        "http://host?x=1",
        "http://host/tasks/7/jobs/3",
        "https://host/api",
        "host/projects",
    ],
)
def test_what_is_no_address_of_a_server_is_refused_with_an_example(address: str) -> None:
    with pytest.raises(InputError, match=r"such as https://cvat\.example\.com") as caught:
        login_of({"CVAT_HOST": address})
    assert caught.value.field == "server"


@pytest.mark.parametrize(
    "address",
    [
        "localhost",
        "localhost:8080",
        "http://127.0.0.1:9",
        "https://cvat.example.com/",
        "https://[::1]:8080",
        "https://bücher.example",
        "https://host/cvat",
        "http://cvat_server:8080",
        "HTTPS://Host",
    ],
)
def test_addresses_of_servers_pass(address: str) -> None:
    assert login_of({}, server=address).server == address
