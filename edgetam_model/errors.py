"""One tree of errors: what a caller can catch, and what an edge turns into an exit code or a status."""


class EdgeTAMError(Exception):
    """Root of every error this product raises on purpose."""


class InputError(EdgeTAMError, ValueError):
    """Something the caller gave is wrong.

    Args:
        field: name of the argument, option or JSON field at fault.
        problem: what was expected, and what came instead.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class PromptError(InputError):
    """A prompt that cannot be used: wrong shape, outside the image, or empty."""


class MediaError(InputError):
    """An image or a video that is refused or cannot be read."""


class StateError(InputError):
    """A tracked object's state that is damaged, or of another version, model or image size."""


class WeightsError(EdgeTAMError):
    """Weights that are missing, damaged, or of another model."""


class SessionError(EdgeTAMError):
    """A call that the state of a video session does not allow."""


class CheckpointError(SessionError):
    """Checkpoint bytes that are damaged, of another version, model or video."""
