"""The way to the server, for all verbs: the SDK is an extra, and its absence is said in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgetam_model import EdgeTAMError

if TYPE_CHECKING:
    from cvat_function.video.login import Login
    from cvat_function.video.server import CvatServer


SDK_PACKAGES = ("cvat_sdk", "urllib3")  # the second comes with the first


def reach(login: Login) -> CvatServer:
    """Log in; use the result in a `with`.

    Raises:
        EdgeTAMError: CVAT's SDK is not installed, or the server cannot be reached.
        InputError: the server refuses.
    """
    try:
        from cvat_function.video.server import CvatServer
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in SDK_PACKAGES:
            raise
        raise EdgeTAMError('CVAT\'s SDK is missing: pip install "edgetam-labeling[cvat]"') from error
    return CvatServer.connect(login)
