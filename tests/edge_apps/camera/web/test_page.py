"""The page as a person sees it, in a headless Chromium."""

import itertools
import re
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from edge_apps.camera.live import recent
from edge_apps.camera.live.schema import LogState
from edge_apps.camera.live.state import LiveState
from edge_apps.camera.sources.parse import Event
from edge_apps.camera.web import routes
from edge_apps.camera.web.address import Address
from edge_apps.camera.web.server import WebServer
from edge_apps.camera.web.stream import Places

TOKEN = "correct-horse-battery-staple"
STATUS = "document.getElementById('status').textContent"
CHART = """((stage) => {
    const canvas = document.getElementById("chart");
    const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    const [r, g, b] = getComputedStyle(document.documentElement).getPropertyValue(`--${stage}`).trim()
        .match(/\\w\\w/g).map((digits) => parseInt(digits, 16));
    let found = 0;
    for (let at = 0; at < pixels.length; at += 4)
        found += pixels[at] === r && pixels[at + 1] === g && pixels[at + 2] === b && pixels[at + 3] === 255;
    return found;
})"""
"""How many pixels of the chart have the colour of a stage."""
INFER, DECODE, WAITING = f"{CHART}('infer')", f"{CHART}('decode')", f"{CHART}('capture')"


@pytest.fixture(scope="module")
def page(chromium: ModuleType) -> Iterator[Any]:
    """One Chromium for all tests here: it takes seconds to start."""
    with chromium.browser(chromium.find()) as page:
        page.size(1280, 900)
        yield page


@pytest.fixture(autouse=True)
def quick_history(monkeypatch: pytest.MonkeyPatch) -> None:
    """A point of the chart every half second."""
    monkeypatch.setattr(recent, "STEP", 0.5)


def part(page: Any, selector: str) -> np.ndarray:
    """What is seen of one element."""
    box = page.ask(
        f"(({{x, y, width, height}}) => [x, y, width, height])"
        f"(document.querySelector('{selector}').getBoundingClientRect())"
    )
    x, y, width, height = (round(side) for side in box)
    return page.picture()[y : y + height, x : x + width]


def test_the_picture_moves_labels_change_and_the_chart_draws(page: Any, serve: Callable, chromium: ModuleType) -> None:
    camera = serve()
    camera.live.event(Event(1.0, "lost", "<b>The cable</b> & its plug"))
    page.size(1280, 900)
    page.open(camera.server.url)
    page.wait(f"{STATUS} === 'Live'")
    page.wait("document.getElementById('frame').classList.contains('has-picture')")
    first = part(page, "#video")
    assert first.std() > 30
    chromium.until(lambda: (part(page, "#video") != first).mean() > 0.3, "the picture moves")
    label = page.wait("document.querySelector('#labels .name span')?.textContent")
    page.wait(f"document.querySelector('#labels .name span').textContent !== '{label}'")
    assert page.ask("document.querySelectorAll('#labels li').length") == 3
    assert page.ask("document.querySelector('#labels .name span + span').textContent") == "75.0 %"
    page.wait(f"{INFER} > 200")
    assert page.ask("document.querySelector('#stages tbody tr:nth-child(4) td').textContent") != "–"
    assert "infer 1" in page.ask("document.getElementById('chart').ariaLabel")
    page.wait("document.getElementById('device-temperature')?.textContent.endsWith('°C')")
    assert page.wait("document.getElementById('spoken').textContent") in page.ask("document.body.textContent")
    # Text that came from outside is text.
    assert (
        page.ask("document.querySelector('#events .kind').parentNode.textContent") == "lost<b>The cable</b> & its plug"
    )
    assert page.ask("document.querySelectorAll('#events b').length") == 0


def test_a_still_picture_is_shown_at_once(
    page: Any, serve: Callable, live_camera: ModuleType, chromium: ModuleType
) -> None:
    """A browser shows a part of the stream when the next one begins: here there is none."""
    camera = serve(frames=False)
    page.open(camera.server.url)
    for grey in (40, 200):
        camera.live.publish(live_camera.some_result(grey, np.full((480, 640, 3), grey, np.uint8)))
        page.wait("document.getElementById('video').width === 640")

        def is_shown(grey: int = grey) -> bool:
            seen = part(page, "#video")
            return abs(float(np.median(seen)) - grey) < 5

        chromium.until(is_shown, f"a picture of {grey}")


def test_a_stage_can_be_left_out_of_the_chart(page: Any, serve: Callable) -> None:
    camera = serve()
    page.open(camera.server.url)
    page.wait(f"{INFER} > 200")
    page.ask("document.querySelector('tr[data-stage=infer] button').click()")
    page.wait(f"{INFER} === 0")
    assert page.ask("document.querySelector('tr[data-stage=infer] button').ariaPressed") == "false"
    page.ask("document.querySelector('tr[data-stage=infer] button').click()")
    page.wait(f"{INFER} > 200")


def test_end_to_end_latency_leads_and_waiting_is_left_out_until_it_is_asked_for(page: Any, serve: Callable) -> None:
    camera = serve()
    page.size(1280, 900)
    page.open(camera.server.url)
    page.wait(f"{INFER} > 200")
    tiles = "[...document.querySelectorAll('#figures dt')].map((one) => one.textContent)"
    assert page.ask(tiles) == ["End-to-end", "Throughput", "Inference", "Frames", "Skipped", "Restarts"]
    names = page.ask("[...document.querySelectorAll('#stages tbody th')].map((one) => one.textContent)")
    assert names == ["end-to-end", "decode", "preprocess", "infer", "postprocess", "waiting"]
    assert "total" not in page.ask("document.body.textContent").lower()
    assert page.ask(WAITING) == 0
    said = page.ask("document.getElementById('chart').ariaLabel")
    assert "waiting" not in said
    assert said.endswith("end to end.")
    page.ask("document.querySelector('tr[data-stage=capture] button').click()")
    page.wait(f"{WAITING} > 200")
    assert "waiting 2" in page.ask("document.getElementById('chart').ariaLabel")


def test_the_page_says_which_device_it_is(page: Any, serve: Callable, live_camera: ModuleType) -> None:
    camera = serve()
    facts = live_camera.some_facts()
    camera.live.switched(msgspec.structs.replace(facts, device_name="<b>Küche</b> & Flur"))
    page.open(camera.server.url)
    page.wait(f"{STATUS} === 'Live'")
    assert page.ask("document.querySelector('h1').textContent") == "<b>Küche</b> & Flur mobilenet_v2 int8"
    assert page.wait("document.title") == "mobilenet_v2 · <b>Küche</b> & Flur"
    assert page.ask("document.getElementById('session-device').textContent") == "<b>Küche</b> & Flur, id 3f2a91c0"
    assert page.ask("document.getElementById('hardware').textContent") == facts.hardware


def test_image_and_panel_are_of_one_frame(page: Any, serve: Callable, live_camera: ModuleType) -> None:
    """Whatever moment one looks at, while frames come faster than they can be shown."""
    camera = serve(frames=False)
    stop = threading.Event()

    def publish() -> None:
        for sequence in itertools.count():
            if stop.wait(0.01):
                return
            image = np.full((480, 640, 3), 3 * (sequence % 80), np.uint8)
            camera.live.publish(live_camera.some_result(sequence, image, live_camera.LABELS[sequence % 4]))

    thread = threading.Thread(target=publish, daemon=True)
    thread.start()
    page.open(camera.server.url)
    page.wait("document.getElementById('labels-frame').textContent")
    seen = set()
    for _ in range(12):
        frame, label, grey = page.ask("""[
            Number(document.getElementById("labels-frame").textContent.replace(/\\D/g, "")),
            document.querySelector("#labels .name span").textContent,
            document.getElementById("video").getContext("2d").getImageData(500, 240, 1, 1).data[0],
        ]""")
        assert round(grey / 3) == frame % 80
        assert label == live_camera.LABELS[frame % 4]
        seen.add(frame)
        time.sleep(0.1)
    assert len(seen) > 3
    stop.set()
    thread.join()


def test_labels_are_shown_where_no_image_can_be(page: Any, serve: Callable, live_camera: ModuleType) -> None:
    camera = serve(frames=False)
    page.open(camera.server.url)
    camera.live.publish(live_camera.some_result(7, np.zeros((0, 0, 3), np.uint8)))
    page.wait("document.getElementById('labels-frame').textContent === 'frame 7'")


def test_decoding_by_another_process_is_a_part_of_the_latency(
    page: Any, serve: Callable, live_camera: ModuleType
) -> None:
    camera = serve(frames=False)
    rows = "[...document.querySelectorAll('#stages tbody tr')].map((row) => row.dataset.stage).join()"
    page.open(camera.server.url)
    with live_camera.running(camera.live):
        page.wait(f"{DECODE} > 50")
    assert page.ask(rows) == "age,decode,preprocess,infer,postprocess,capture"
    assert page.ask("document.getElementById('elsewhere').hidden") is True
    with live_camera.running(camera.live, decoded_elsewhere=True):
        page.wait("document.getElementById('elsewhere').hidden === false")
        page.wait(f"{INFER} > 200 && {DECODE} > 50")
    assert page.ask("document.querySelector('tr[data-stage=decode] td').textContent") == "4.00"
    assert page.ask(rows) == "age,decode,preprocess,infer,postprocess,capture"


def test_no_picture_no_frames_and_no_server_are_said_and_it_comes_back(
    page: Any, serve: Callable, live_camera: ModuleType
) -> None:
    with ExitStack() as running:
        live = running.enter_context(LiveState(live_camera.some_facts(), stale_after=1.0))
        pause = running.enter_context(live_camera.running(live))
        server = running.enter_context(WebServer(live, Address("127.0.0.1", 0), None))
        port = server._address.port
        page.open(server.url)
        page.wait(f"{STATUS} === 'Live'")
        pause.set()
        page.wait(f"{STATUS}.startsWith('No frame for')")
        assert page.ask("document.body.classList.contains('is-old')")
        assert page.ask("document.getElementById('veil').hidden") is False
        pause.clear()
        page.wait(f"{STATUS} === 'Live'")
        assert page.ask("document.getElementById('veil').hidden") is True
        server.stop()
        page.wait(f"{STATUS} === 'Disconnected, trying again…'")
        assert "Disconnected" in page.ask("document.title")
    camera = serve(port=port)
    page.wait(f"{STATUS} === 'Live'")
    page.wait("document.getElementById('video').width === 640")
    assert camera.live.preview.viewers == 1


def test_a_viewer_too_many_is_told_so_and_let_in_when_there_is_room(
    page: Any, serve: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "Places", partial(Places, 1))
    camera = serve()
    with urllib.request.urlopen(f"{camera.server.url}events"):
        page.open(camera.server.url)
        page.wait(f"{STATUS} === 'Too many viewers, trying again…'")
        assert "Too many viewers" in page.ask("document.getElementById('veil').textContent")
    page.wait(f"{STATUS} === 'Live'")


def test_a_log_that_is_not_written_is_marked(page: Any, serve: Callable) -> None:
    camera = serve()
    log = "document.getElementById('session-log')"
    camera.live.log(LogState("writing"))
    page.open(camera.server.url)
    page.wait(f"{STATUS} === 'Live' && {log}?.textContent === 'being written'")
    usual = page.ask(f"getComputedStyle({log}).color")
    camera.live.log(LogState("paused", "No space left on device", 12345))
    page.wait(f"{STATUS} === 'Live, log paused'")
    assert page.ask(f"{log}.textContent") == "paused: No space left on device, 12,345 rows dropped"
    assert page.ask(f"getComputedStyle({log}).color") != usual
    assert page.ask("document.getElementById('veil').hidden") is True


def test_the_session_is_that_of_the_log(page: Any, serve: Callable) -> None:
    camera = serve()
    page.open(camera.server.url)
    page.wait(f"{STATUS} === 'Live'")
    assert page.ask("document.getElementById('session-source').textContent") == "test-pattern (30 fps, pipelined)"
    assert page.ask("document.getElementById('device-governor').textContent") == "ondemand"


def test_an_event_of_another_day_has_a_date(page: Any, serve: Callable) -> None:
    camera = serve()
    long_ago = time.time() - 3 * 86400
    camera.live.event(Event(long_ago, "lost", "three days ago"))
    camera.live.event(Event(time.time(), "back", "now"))
    page.open(camera.server.url)
    page.wait("document.querySelectorAll('#events time').length === 2")
    today, before = page.ask("[...document.querySelectorAll('#events time')].map((one) => one.textContent)")
    date, _, hour = before.partition("\n")
    assert str(time.localtime(long_ago).tm_year) in date
    assert all(re.fullmatch(r"\d\d:\d\d:\d\d", told) for told in (today, hour))


def test_nobody_looks_while_the_page_is_hidden(page: Any, serve: Callable, chromium: ModuleType) -> None:
    camera = serve()
    page.open(camera.server.url)
    chromium.until(lambda: camera.live.preview.viewers == 1, "somebody looks")
    hide = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true});"
    tell = "document.dispatchEvent(new Event('visibilitychange'))"
    page.ask(hide % "true" + tell)
    chromium.until(lambda: camera.live.preview.viewers == 0, "nobody looks")
    page.ask(hide % "false" + tell)
    chromium.until(lambda: camera.live.preview.viewers == 1, "somebody looks again")
    page.wait(f"{STATUS} === 'Live'")


def test_the_token_is_asked_for_refused_and_accepted(page: Any, serve: Callable) -> None:
    camera = serve(token=TOKEN)
    page.open(camera.server.url)
    assert page.ask("document.querySelector('h1').textContent") == "This camera asks for its token"
    assert page.ask("getComputedStyle(document.querySelector('button')).backgroundColor") == "rgb(31, 111, 92)"
    page.ask("document.querySelector('input').value = 'guess'; document.querySelector('button').click()")
    page.wait("document.querySelector('[role=alert]')?.textContent === 'That token is wrong.'")
    page.ask(f"document.querySelector('input').value = '{TOKEN}'; document.querySelector('button').click()")
    page.wait(f"document.getElementById('status') && {STATUS} === 'Live'")
    assert page.ask("location.href") == camera.server.url
    assert page.ask("document.cookie") == ""  # a script cannot read it
    assert page.ask("document.referrer") == ""
    page.wait("document.getElementById('video').width === 640")


def test_the_address_that_is_shown_at_the_start_opens_it(page: Any, serve: Callable) -> None:
    camera = serve(token=TOKEN)
    page.open(camera.server.entry)
    page.wait(f"document.getElementById('status') && {STATUS} === 'Live'")
    assert page.ask("location.href") == camera.server.url


def test_a_link_on_another_page_opens_it(page: Any, serve: Callable) -> None:
    """Under a name that is no localhost, as a board's."""
    camera = serve(token=TOKEN)
    entry = f"http://camera.example:{camera.port}/?token={TOKEN}"
    page.open(f"data:text/html,<a href='{entry}'>The camera</a>")
    page.ask("document.querySelector('a').click()")
    page.wait(f"document.getElementById('status') && {STATUS} === 'Live'")


def test_a_token_that_changed_is_asked_for(page: Any, serve: Callable) -> None:
    """As when the camera is started again, and makes a new one."""
    camera = serve(token=TOKEN)
    page.open(camera.server.entry)
    page.wait(f"document.getElementById('status') && {STATUS} === 'Live'")
    camera.server.stop()
    serve(token=TOKEN[::-1], port=camera.port)
    page.wait("document.querySelector('h1')?.textContent === 'This camera asks for its token'")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(320, 640), (768, 1024), (1280, 900)])
def test_it_fits_on_the_screen(
    page: Any, serve: Callable, live_camera: ModuleType, tmp_path: Path, width: int, height: int, dark: bool
) -> None:
    """Pictures of it stay in the test's folder, to be looked at."""
    camera = serve(frames=False)
    facts = live_camera.some_facts()
    camera.live.switched(msgspec.structs.replace(facts, file="x" * 200, model="a_model_with_quite_a_long_name_v2"))
    camera.live.event(Event(1.0, "lost", "rtsp://" + "y" * 200))
    label = "Long-horned-beetle" * 6
    page.size(width, height, dark=dark)
    page.open(camera.server.url)
    with live_camera.running(camera.live):
        page.wait(f"{INFER} > 100")
    camera.live.publish(live_camera.some_result(1, np.full((480, 640, 3), 90, np.uint8), label))
    page.wait(f"document.querySelector('#labels .name span').textContent === '{label}'")
    assert page.ask("document.documentElement.scrollWidth <= innerWidth")
    cut = page.ask("""[...document.querySelectorAll("section, section *, header *")]
        .filter((one) => !one.closest(".unseen") && one.getBoundingClientRect().right > innerWidth + 1).length""")
    assert cut == 0
    seen = page.picture()
    assert seen.shape == (height, width, 3)
    assert bool(np.median(seen[:, :8]) < 80) is dark
    assert cv2.imwrite(str(tmp_path / f"{width}-{'dark' if dark else 'light'}.png"), seen)


def test_nothing_breaks_the_policy_and_nothing_comes_from_elsewhere(page: Any, serve: Callable) -> None:
    camera = serve()
    page.call(
        "Page.addScriptToEvaluateOnNewDocument",
        source="""
        window.faults = [];
        addEventListener("securitypolicyviolation", (event) => faults.push(event.blockedURI));
        addEventListener("error", (event) => faults.push(String(event.message)));
    """,
    )
    page.open(camera.server.url)
    page.wait(f"{INFER} > 200")
    assert page.ask("faults") == []
    names = page.ask("performance.getEntriesByType('resource').map((one) => one.name)")
    assert names
    assert all(name.startswith(camera.server.url) for name in names)


def test_colours_can_be_told_from_the_ground(page: Any, serve: Callable) -> None:
    """At least 4.5 to 1 for text (WCAG 2.2, 1.4.3)."""
    camera = serve()
    for dark in (False, True):
        page.size(1280, 900, dark=dark)
        page.open(camera.server.url)
        page.wait(f"{STATUS} === 'Live'")
        for ground, text in itertools.product(("card", "ground"), ("ink", "soft", "accent", "warn", "bad")):
            assert contrast(colour(page, ground), colour(page, text)) >= 4.5, (dark, ground, text)


def colour(page: Any, name: str) -> str:
    """A colour of the page, by the name of its variable."""
    return page.ask(f"getComputedStyle(document.documentElement).getPropertyValue('--{name}').trim()")


def contrast(one: str, other: str) -> float:
    """Of two colours ``#rgb`` or ``#rrggbb``, by the formula of WCAG."""

    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
        values = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted([luminance(one), luminance(other)], reverse=True)
    return (light + 0.05) / (dark + 0.05)
