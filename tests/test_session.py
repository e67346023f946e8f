"""A session's promises: objects do not touch each other, corrections stay local, nothing is done twice."""

from __future__ import annotations

import numpy as np
import pytest

from edgetam_model.errors import InputError, PromptError, SessionError
from edgetam_model.options import TrackerOptions
from edgetam_model.prompts import Prompt
from edgetam_model.results import FrameResult
from edgetam_model.session import VideoSession
from edgetam_model.video_tracker import VideoTracker
from tests.models import clip, tiny_model

SAME = 1e-4  # logits of an object alone and in a batch: matrix kernels differ by batch size


def open_session(frames: int, **options: object) -> VideoSession:
    return VideoTracker(tiny_model(), TrackerOptions(**options)).open(clip(frames))  # type: ignore[arg-type]


def box(i: int) -> Prompt:
    """A different box for every number."""
    x, y = 5 + i * 7 % 100, 5 + i * 11 % 50
    return Prompt(box=[x, y, x + 20 + i % 3 * 9, y + 25])


def run(session: VideoSession, **arguments: object) -> dict[int, FrameResult]:
    return {result.frame: result for result in session.propagate(**arguments)}  # type: ignore[arg-type]


def assert_same_object(one: dict[int, FrameResult], other: dict[int, FrameResult], object_id: int) -> None:
    frames = [frame for frame, result in one.items() if object_id in result.objects]
    assert frames
    for frame in frames:
        a, b = one[frame].objects[object_id], other[frame].objects[object_id]
        assert np.array_equal(a.mask, b.mask), (object_id, frame)
        assert np.abs(a.logits - b.logits).max() <= SAME, (object_id, frame)
        assert abs(a.object_score - b.object_score) <= SAME


@pytest.mark.parametrize("count", [2, 10, 50])
def test_objects_in_one_session_track_as_they_do_alone(count: int) -> None:
    frames = 8
    together = open_session(frames)
    for i in range(count):
        together.add_prompt(0, i, box(i))
    all_of_them = run(together)
    for i in range(0, count, max(1, count // 5)):
        alone = open_session(frames)
        alone.add_prompt(0, i, box(i))
        assert_same_object(run(alone), all_of_them, i)


def test_an_object_added_at_40_and_one_removed_at_60_leave_the_others_alone() -> None:
    undisturbed = open_session(80)
    for i in range(3):
        undisturbed.add_prompt(0, i, box(i))
    expected = run(undisturbed)

    session = open_session(80)
    for i in range(3):
        session.add_prompt(0, i, box(i))
    results = {r.frame: r for r in session.propagate(stop=39)}
    session.add_prompt(40, 9, box(9))
    results |= run(session, start=40, stop=59)
    session.remove_object(1)
    results |= run(session, start=60)

    assert all(set(results[f].objects) == {0, 1, 2} for f in range(40))
    assert all(set(results[f].objects) == {0, 1, 2, 9} for f in range(40, 60))
    assert all(set(results[f].objects) == {0, 2, 9} for f in range(60, 80))
    for i in (0, 2):
        assert_same_object(expected, results, i)
    assert_same_object({f: r for f, r in results.items() if f < 60}, expected, 1)


def test_objects_may_be_added_while_a_pass_is_running() -> None:
    session = open_session(12)
    session.add_prompt(0, 1, box(1))
    seen = {}
    for result in session.propagate():
        seen[result.frame] = set(result.objects)
        if result.frame == 5:
            session.add_prompt(6, 2, box(2))
    assert seen[5] == {1}
    assert all(seen[f] == {1, 2} for f in range(6, 12))


def test_histories_of_different_length_share_a_batch() -> None:
    late = open_session(14)
    late.add_prompt(9, 2, box(2))
    expected = run(late)
    session = open_session(14)
    session.add_prompt(0, 1, box(1))
    session.add_prompt(9, 2, box(2))
    assert_same_object(expected, run(session), 2)


def correction_setting(**options: object) -> tuple[VideoSession, dict[int, FrameResult]]:
    session = open_session(60, **options)
    session.add_prompt(0, 1, box(1))
    session.add_prompt(50, 1, box(4))
    session.add_prompt(0, 2, box(2))
    return session, run(session)


def identical(a: FrameResult, b: FrameResult, object_id: int) -> bool:
    one, other = a.objects[object_id], b.objects[object_id]
    facts = (one.iou, one.object_score, one.state) == (other.iou, other.object_score, other.state)
    return facts and one.logits.tobytes() == other.logits.tobytes() and np.array_equal(one.mask, other.mask)


def test_a_correction_changes_only_the_stretch_between_the_neighbouring_prompts() -> None:
    session, before = correction_setting()
    corrected = session.add_prompt(30, 1, Prompt(box=[100, 50, 150, 80]))
    computed = []
    after = run(session, progress=lambda done, total: computed.append((done, total)))

    assert len(computed) == 48, "frames 1–29 and 31–49, and nothing else"
    assert computed[-1] == (48, 48)
    outside = [0, *range(50, 60)]
    assert all(identical(before[f], after[f], 1) for f in outside)
    assert all(identical(before[f], after[f], 2) for f in range(60)), "other objects are not touched"
    assert not identical(before[30], after[30], 1)
    assert after[30].objects[1].logits.tobytes() == corrected.logits.tobytes()
    changed = [f for f in range(1, 50) if not identical(before[f], after[f], 1)]
    assert {29, 31} <= set(changed), "the correction reaches both sides"
    assert after[30].objects[1].prompted
    assert not after[31].objects[1].prompted


def test_the_stretch_does_not_depend_on_what_was_tracked_before_the_correction() -> None:
    square = np.zeros((90, 160), bool)
    square[50:80, 100:130] = True
    session, _ = correction_setting()
    session.add_prompt(30, 1, Prompt(mask=square))
    corrected = run(session)
    fresh = open_session(60)
    for frame, prompt in ((0, box(1)), (50, box(4)), (30, Prompt(mask=square))):
        fresh.add_prompt(frame, 1, prompt)
    backward = run(fresh, start=30, stop=1, reverse=True)
    forward = run(fresh, start=30, stop=49)
    for frame in range(1, 50):
        expected = (backward if frame < 30 else forward)[frame].objects[1]
        assert np.abs(corrected[frame].objects[1].logits - expected.logits).max() <= SAME


def test_a_pass_in_reverse_also_repairs_both_sides() -> None:
    session, _ = correction_setting()
    session.add_prompt(30, 1, box(7))
    forward = run(session)
    session, _ = correction_setting()
    session.add_prompt(30, 1, box(7))
    backward = run(session, start=59, reverse=True)
    assert list(backward) == list(range(59, -1, -1))
    for frame in range(60):
        assert identical(forward[frame], backward[frame], 1)


def test_published_corrections_stay_recent_memories_and_reach_later_frames_only() -> None:
    session, before = correction_setting(corrections_as_conditioning=False)
    session.add_prompt(30, 1, Prompt(points=[[120, 60], [10, 10]], labels=[1, 0]))
    after = run(session)
    assert all(identical(before[f], after[f], 1) for f in [*range(30), *range(50, 60)])
    assert not identical(before[31], after[31], 1)
    assert session.objects[1].conditioning == [0, 50]


def test_a_published_correction_survives_a_prompt_on_a_later_frame() -> None:
    session = open_session(60, corrections_as_conditioning=False)
    session.add_prompt(0, 1, box(1))
    run(session, stop=40)
    session.add_prompt(30, 1, Prompt(points=[[120, 60]], labels=[1]))
    session.add_prompt(50, 1, box(4))
    assert len(run(session)) == 60
    assert session.result(30).objects[1].prompted


def test_a_second_pass_computes_nothing() -> None:
    session, before = correction_setting()
    computed: list[tuple[int, int]] = []
    after = run(session, progress=lambda done, total: computed.append((done, total)))
    assert computed == []
    assert all(identical(before[f], after[f], i) for f in range(60) for i in (1, 2))


def test_a_stopped_pass_goes_on_where_it_was_to_the_same_masks() -> None:
    session, _ = correction_setting()
    session.add_prompt(30, 1, box(7))
    expected = run(session)

    class StoppedError(Exception):
        pass

    def stop_after(count: int) -> object:
        def progress(done: int, total: int) -> None:
            if done == count:
                raise StoppedError

        return progress

    session, _ = correction_setting()
    session.add_prompt(30, 1, box(7))
    for count in (10, 25):  # in the backward stretch, then in the forward one
        with pytest.raises(StoppedError):
            run(session, progress=stop_after(count))
    after = run(session)
    assert all(identical(expected[f], after[f], 1) for f in range(60))


def test_both_directions_do_not_depend_on_their_order() -> None:
    first = open_session(20)
    first.add_prompt(10, 1, box(1))
    run(first)
    run(first, reverse=True)
    second = open_session(20)
    second.add_prompt(10, 1, box(1))
    run(second, reverse=True)
    run(second)
    assert all(identical(first.result(f), second.result(f), 1) for f in range(20))


def test_the_prompted_frame_of_a_correction_refines_its_last_logits() -> None:
    session = open_session(10)
    session.add_prompt(0, 1, box(1))
    run(session)
    click = Prompt(points=[[60, 45]], labels=[1])
    refined = session.add_prompt(5, 1, click)
    anew = open_session(10)
    first = anew.add_prompt(5, 1, click)
    assert np.abs(refined.logits - first.logits).max() > SAME


def test_clicks_are_added_or_replace() -> None:
    session = open_session(5)
    session.add_prompt(0, 1, Prompt(points=[[40, 40]], labels=[1]))
    session.add_prompt(0, 1, Prompt(points=[[60, 60]], labels=[0]), extend=True)
    assert session.objects[1].prompts[0].points.tolist() == [[40, 40], [60, 60]]
    session.add_prompt(0, 1, Prompt(points=[[45, 40]], labels=[1]))
    assert session.objects[1].prompts[0].points.tolist() == [[45, 40]]


def test_removing_a_prompt_tracks_its_stretch_again_from_the_prompt_before() -> None:
    session, before = correction_setting()
    session.add_prompt(30, 1, box(7))
    run(session)
    session.remove_prompt(30, 1)
    after = run(session)
    assert all(identical(before[f], after[f], 1) for f in [0, *range(50, 60)])
    assert_same_object({f: before[f] for f in range(50)}, after, 1)
    with pytest.raises(SessionError, match="no prompt on frame 30"):
        session.remove_prompt(30, 1)


def test_a_correction_whose_first_prompt_is_removed_can_be_corrected_again() -> None:
    session = open_session(8)
    session.add_prompt(0, 1, box(1))
    run(session)
    session.add_prompt(5, 1, Prompt(points=[[60, 45]], labels=[1]))
    session.remove_prompt(0, 1)
    again = session.add_prompt(5, 1, Prompt(points=[[64, 45]], labels=[1]), extend=True)
    assert again.prompted
    assert set(run(session)) == {5, 6, 7}


def test_the_only_prompt_cannot_be_removed() -> None:
    session = open_session(3)
    session.add_prompt(0, 1, box(1))
    with pytest.raises(SessionError, match="only prompt"):
        session.remove_prompt(0, 1)


def test_an_object_is_not_tracked_to_frames_that_no_prompt_leads_to() -> None:
    session = open_session(10)
    session.add_prompt(0, 1, box(1))
    session.add_prompt(6, 2, box(2))
    forward = run(session)
    assert [f for f, r in forward.items() if 2 in r.objects] == [6, 7, 8, 9]
    backward = run(session, start=6, reverse=True)
    assert all(2 in r.objects for r in backward.values())


def test_masks_do_not_overlap_when_asked() -> None:
    plain, parted = open_session(6), open_session(6, non_overlapping=True)
    for session in (plain, parted):
        session.add_prompt(0, 1, Prompt(box=[20, 20, 90, 70]))
        session.add_prompt(0, 2, Prompt(box=[30, 25, 100, 75]))
    overlapping = sum((r.objects[1].mask & r.objects[2].mask).sum() for r in run(plain).values())
    assert overlapping > 0, "else this test shows nothing"
    for result in run(parted).values():
        assert not (result.objects[1].mask & result.objects[2].mask).any()


def test_an_object_without_reliable_masks_is_lost_and_shows_no_mask() -> None:
    session = open_session(12, lost_after=3, lost_iou=1.0)  # no predicted IoU reaches 1
    session.add_prompt(0, 1, box(1))
    results = run(session)
    states = [results[f].objects[1].state for f in range(12)]
    assert states[0] == "visible"
    assert states[3:] == ["lost"] * 9
    assert not results[5].objects[1].mask.any()
    assert (results[5].objects[1].logits > 0).any(), "the logits still say what the decoder saw"


def test_bad_calls_name_what_is_wrong() -> None:
    session = open_session(5)
    with pytest.raises(SessionError, match="nothing is prompted"):
        session.propagate()
    with pytest.raises(InputError, match=r"frame: expected a frame from 0 to 4, got 5"):
        session.add_prompt(5, 1, box(1))
    with pytest.raises(PromptError, match="points: expected clicks inside"):
        session.add_prompt(0, 1, Prompt(points=[[161, 4]], labels=[1]))
    with pytest.raises(PromptError, match="positive"):
        session.add_prompt(0, 1, Prompt(points=[[16, 4]], labels=[0]))
    assert not session.objects, "a refused prompt leaves no object behind"
    session.add_prompt(0, 1, box(1))
    with pytest.raises(InputError, match="stop: expected at least start"):
        session.propagate(start=3, stop=1)
    with pytest.raises(SessionError, match="no object 7"):
        session.remove_object(7)
