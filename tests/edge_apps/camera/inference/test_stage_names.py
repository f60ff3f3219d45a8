"""What people are shown of a frame's stages."""

from edge_apps.camera.inference.stage_names import for_people
from edge_apps.runtime.latency import STAGES


def test_latency_leads_waiting_is_called_so_and_the_total_is_left_out() -> None:
    shown = for_people({stage: stage for stage in STAGES})
    assert list(shown.items()) == [
        ("end-to-end", "age"),
        ("decode", "decode"),
        ("preprocess", "preprocess"),
        ("infer", "infer"),
        ("postprocess", "postprocess"),
        ("waiting", "capture"),
    ]


def test_version_1_of_the_log_did_not_tell_waiting_from_decoding() -> None:
    measured = ("capture", "preprocess", "infer", "postprocess", "total")
    assert list(for_people(dict.fromkeys(measured))) == ["preprocess", "infer", "postprocess", "capture"]


def test_a_benchmark_waits_for_nothing() -> None:
    assert list(for_people(dict.fromkeys(("age", "infer", "total")))) == ["end-to-end", "infer"]
