"""The command ``edge-camera run``: parse, call. What it needs is imported when it runs."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_apps.camera.commands.device_options import device_name_option
from edge_apps.camera.commands.model_options import model_options
from edge_apps.camera.commands.run_options import RunOptions
from edge_apps.errors import BadInput, NotThere

if TYPE_CHECKING:
    from edge_apps.camera.inference.model import Opened
    from edge_apps.camera.log.sink import LogOptions
    from edge_apps.camera.run import Options
    from edge_apps.camera.sources.parse import Source, SourceOptions
    from edge_apps.camera.web.sink import WebOptions


class Finite(click.FloatRange):
    """A range of numbers, of which NaN is none and infinity neither."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a number in the range {self._range()}.", param, ctx)
        return number

    def _range(self) -> str:
        return f"x>={self.min}" if self.max is None else f"{self.min}<=x<={self.max}"


def _from_file(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    from edge_apps.camera.commands.config import configure

    return configure(context, parameter, value)


@click.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    is_eager=True,  # before the others: what it says are their defaults
    callback=_from_file,
    expose_value=False,
    help="A TOML file with any of these options; 'edge-camera config' prints one. The command line wins.",
)
@click.option(
    "--without",
    multiple=True,
    metavar="OPTION",
    is_eager=True,
    callback=_from_file,
    expose_value=False,
    help="Leave out what the --config file says of this option: --without web. May be repeated.",
)
@model_options
@click.option(
    "--source",
    "-s",
    "source_text",
    required=True,
    metavar="SOURCE",
    help="The path of a video, of an image, or of a folder or .tar of images, which are taken by name; a camera: 0, "
    "1, … (or usb:N), /dev/videoN, csi:N, rtsp://… or http://… (JPEG images, as a stream or one at a time); or "
    "test-pattern. 'edge-camera sources' lists what is there.",
)
@click.option("--loop", is_flag=True, help="Start a file or folder again when it ends.")
@click.option(
    "--every-frame",
    is_flag=True,
    help="Classify each frame of a video file, as fast as possible. Without it the video keeps the pace of its time "
    "stamps, as a camera would show it, and frames that nobody was ready for are dropped.",
)
@click.option("--size", metavar="WxH", help="Ask a camera (or the test pattern) for this size. [CSI: 640x480]")
@click.option("--fps", type=float, help="Ask it for so many frames a second. [CSI: 30]")
@click.option("--rotate", type=click.Choice(["0", "90", "180", "270"]), default="0", help="Degrees, clockwise.")
@click.option("--mirror", is_flag=True, help="Exchange left and right, after --rotate.")
@click.option(
    "--hang-after", type=float, metavar="SECONDS", help="Restart a camera that gives no frame for so long. [default: 5]"
)
@click.option(
    "--wait-for-source", is_flag=True, help="A camera that does not exist (yet) is waited for, instead of an error."
)
@click.option("--frames", type=click.IntRange(min=1), help="Stop after this many classified frames.")
@click.option("--top-k", type=click.IntRange(min=1), help="Labels shown per frame. [default: 3]")
@click.option(
    "--threshold",
    type=Finite(0, 1),
    default=0.0,
    show_default=True,
    help="A frame whose best label is less probable gets none.",
)
@click.option(
    "--smooth",
    metavar="HOW",
    help="Over frames: exponential[:SECONDS] (default 0.5) or majority[:FRAMES] (default 15). The log keeps the label "
    "of each frame alone.",
)
@click.option(
    "--pipelined",
    is_flag=True,
    help="Capture and preprocess the next frame while the network works on this one: more frames a second where there "
    "is a second core, each a little older.",
)
@click.option("--watch", is_flag=True, help="When the model's files change, use the new ones, if they work.")
@click.option(
    "--snapshot", type=click.Path(path_type=Path), metavar="DIR", help="Keep frames as JPEG files, with --snapshot-on."
)
@click.option("--snapshot-on", multiple=True, metavar="LABEL", help="Keep those of this label. May be repeated.")
@click.option("--snapshot-every", type=Finite(0), metavar="SECONDS", help="Not more often than that. [default: 10]")
@click.option("--snapshot-most", type=click.IntRange(1), metavar="N", help="Not more in one run. [default: 1000]")
@click.option(
    "--warmup",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Inferences before the first frame; the first of them is logged as the cold one.",
)
@device_name_option
@click.option("--log", type=click.Path(path_type=Path), help="Append this run to a latency log (SQLite).")
@click.option("--log-max-size", metavar="SIZE", help="The oldest rows make room when the log is larger, as 200M.")
@click.option("--log-max-age", metavar="AGE", help="Rows of frames older than that go, as 30d or 12h; windows stay.")
@click.option(
    "--web",
    metavar="[HOST:]PORT",
    help="Serve the live page. Without HOST only to this machine; elsewhere, as with 0.0.0.0:8080, a token is needed, "
    "which is printed once.",
)
@click.option(
    "--web-token-file",
    type=click.Path(path_type=Path),
    help="Use the token in this file. (Or in the environment variable EDGE_CAMERA_TOKEN.)",
)
@click.option("--quiet", "-q", is_flag=True, help="No word per frame: only the start and the summary.")
@click.option("--json", "as_json", is_flag=True, help="JSON lines: session, frame, skipped, event, summary.")
def run(**given: Any) -> None:
    """Classify frame after frame: capture, preprocess, infer, postprocess, each timed.

    Ends when the source ends, after --frames, or in order on Ctrl-C or SIGTERM: the log is then complete and the exit
    status is 0, as for every run that classified a frame. A picture that cannot be read is told, logged, counted and
    skipped; the status is 1 if there was no other.
    """
    from edge_apps.camera.commands.output import ForPeople, ForPrograms
    from edge_apps.camera.inference.model import open_model
    from edge_apps.camera.inference.model_watcher import state_of
    from edge_apps.camera.run import Watch
    from edge_apps.camera.run import run as run_camera
    from edge_apps.runtime.signature import trusted_key

    asked = RunOptions(**given)
    source, options = _understood(asked)
    key = trusted_key(asked.trust)  # read once: --watch trusts the key that the run started with

    def open_again() -> Opened:
        return open_model(asked.model, asked.target, asked.precision, asked.threads, xnnpack=asked.xnnpack, trust=key)

    seen = state_of(asked.model) if asked.watch else ()  # before it is opened: what changes from here on is noticed
    opened = open_again()
    expected = min((n for n in (source.length, options.frames) if n is not None), default=None)
    output = (
        ForPrograms(quiet=asked.quiet)
        if asked.as_json
        else ForPeople(lines=source.has_names, quiet=asked.quiet, expected=expected)
    )
    watch = Watch(asked.model, open_again, seen) if asked.watch else None
    run_camera(source, opened, output, replace(options, watch=watch))


def check(asked: RunOptions) -> None:
    """Raise what ``run`` would raise before it opens a model, but that a camera is not there (yet)."""
    from edge_apps.camera.sources.parse import takes
    from edge_apps.runtime.signature import trusted_key

    waits = asked.wait_for_source or takes(asked.source_text, "wait_for_source")
    _understood(replace(asked, wait_for_source=waits))
    trusted_key(asked.trust)


def _understood(asked: RunOptions) -> tuple[Source, Options]:
    """Return what the options mean; everything that their types alone do not check is checked here."""
    from edge_apps.camera.inference.smoothing import parse_smoothing
    from edge_apps.camera.inference.snapshot import snapshot_options
    from edge_apps.camera.run import Options
    from edge_apps.camera.sources.parse import SourceOptions, parse_size, parse_source, stale_after

    source_options = SourceOptions(
        loop=asked.loop,
        every_frame=asked.every_frame,
        size=None if asked.size is None else parse_size(asked.size),
        fps=asked.fps,
        rotate=int(asked.rotate),
        mirror=asked.mirror,
        hang_after=asked.hang_after,
        wait_for_source=asked.wait_for_source,
    )
    try:
        source = parse_source(asked.source_text, source_options)
    except NotThere as error:
        raise BadInput(f"{error} Or give --wait-for-source to wait for it.") from None
    return source, Options(
        warmup=asked.warmup,
        top_k=asked.top_k,
        threshold=asked.threshold,
        smoothing=parse_smoothing(asked.smooth, has_times=not source.has_names),
        frames=asked.frames,
        pipelined=asked.pipelined,
        settings=_settings(source_options, asked.pipelined),
        device_name=asked.device_name,
        log=_log_options(asked.log, asked.log_max_size, asked.log_max_age),
        web=_web_options(asked.web, asked.web_token_file),
        snapshots=snapshot_options(asked.snapshot, asked.snapshot_on, asked.snapshot_every, asked.snapshot_most),
        stale_after=stale_after(source_options),
    )


def _settings(source: SourceOptions, pipelined: bool) -> str:
    """What changes what a run measures, beside its source."""
    words = [
        "×".join(map(str, source.size)) if source.size else "",
        f"{source.fps:g} fps" if source.fps else "",
        f"rotated {source.rotate}°" if source.rotate else "",
        "mirrored" if source.mirror else "",
        "every frame" if source.every_frame else "",
        "pipelined" if pipelined else "",
    ]
    return ", ".join(filter(None, words))


def _log_options(path: Path | None, size: str | None, age: str | None) -> LogOptions | None:
    from edge_apps.camera.log import check_is_log
    from edge_apps.camera.log.limits import Limits
    from edge_apps.camera.log.quantities import parse_bytes, parse_span
    from edge_apps.camera.log.sink import LogOptions

    if path is None:
        if size or age:
            raise BadInput(f"{'--log-max-size' if size else '--log-max-age'} needs a log: add --log FILE.")
        return None
    limits = Limits(parse_bytes(size) if size else None, parse_span(age) if age else None)
    check_is_log(path)  # before the model is loaded; the file itself is made when the first frame is near
    return LogOptions(path, limits.max_bytes, limits.max_age)


def _web_options(text: str | None, token_file: Path | None) -> WebOptions | None:
    if text is None:
        if token_file:
            raise BadInput("--web-token-file needs a page: add --web [HOST:]PORT.")
        return None
    import os

    from edge_apps.camera.web import check_installed
    from edge_apps.camera.web.address import parse_web
    from edge_apps.camera.web.auth import choose_token
    from edge_apps.camera.web.sink import WebOptions

    check_installed()
    address = parse_web(text)
    return WebOptions(address, choose_token(address, os.environ, token_file))
