"""What Label Studio is answered: regions, predictions, and the response that holds them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Score = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Region(BaseModel):
    """One entry of a prediction's `result`.

    Attributes:
        id: of the region; entries of one id are one region in the editor.
        from_name, to_name: the control and the object, as the label config names them.
        type: of the control, "brushlabels".
        value: the shape, and the labels under the type's name.
        score: how sure the model is.
        original_width, original_height: pixels of the image as the browser sees it; None for a video.
        image_rotation: degrees by which the editor shows the image turned; shapes do not turn with it.
        item_index: which image, where an object shows several.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(min_length=1)
    from_name: str
    to_name: str
    type: str
    value: dict[str, Any]
    score: Score | None = None
    original_width: int | None = Field(default=None, ge=1)
    original_height: int | None = Field(default=None, ge=1)
    image_rotation: int | None = None
    item_index: int | None = Field(default=None, ge=0)


class Prediction(BaseModel):
    """One answer about one task, as Label Studio stores it. `score` sorts tasks in the Data Manager."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    result: tuple[Region, ...] = Field(min_length=1)
    score: Score
    model_version: str

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is None is left out."""
        return self.model_dump(mode="json", exclude_none=True)


def prediction_of(regions: Sequence[Region], model_version: str) -> Prediction | None:
    """The prediction that holds the regions, its score the lowest of theirs; None without any.

    The lowest, so that one doubtful object brings its task forward.
    """
    if not regions:
        return None
    scores = [region.score for region in regions if region.score is not None]
    return Prediction(result=tuple(regions), score=min(scores, default=0.0), model_version=model_version)


def response_of(predictions: Sequence[Prediction | None]) -> dict[str, Any]:
    """The body of a /predict answer: one entry per task, in their order.

    A prediction with an empty result would be stored, and opening the task would then start from it. So a
    task without an answer gets an empty list, of which Label Studio stores nothing; and where no task has an
    answer, there are no results at all.
    """
    if not any(predictions):
        return {"results": []}
    return {"results": [[] if one is None else one.to_json() for one in predictions]}
