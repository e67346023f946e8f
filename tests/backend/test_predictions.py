import pytest
from pydantic import ValidationError

from backend.predictions import Prediction, Region, prediction_of, response_of


def region(score: float | None = 0.5, name: str = "r1") -> Region:
    return Region(id=name, from_name="brush", to_name="image", type="brushlabels", value={}, score=score)


def test_a_prediction_is_as_sure_as_its_most_doubtful_region() -> None:
    made = prediction_of([region(0.9), region(0.25), region(None)], "v1")
    assert made is not None
    assert made.score == 0.25
    assert made.to_json()["result"][0] == {
        "id": "r1",
        "from_name": "brush",
        "to_name": "image",
        "type": "brushlabels",
        "value": {},
        "score": 0.9,
    }
    assert "score" not in made.to_json()["result"][2]


def test_no_regions_are_no_prediction() -> None:
    assert prediction_of([], "v1") is None
    with pytest.raises(ValidationError):
        Prediction(result=(), score=0, model_version="v1")


def test_an_answer_without_predictions_has_no_results() -> None:
    assert response_of([]) == {"results": []}
    assert response_of([None, None]) == {"results": []}


def test_a_task_without_a_prediction_keeps_its_place() -> None:
    one = prediction_of([region()], "v1")
    assert one is not None
    assert response_of([None, one]) == {"results": [[], one.to_json()]}


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan")])
def test_scores_are_shares(score: float) -> None:
    with pytest.raises(ValidationError):
        region(score)
