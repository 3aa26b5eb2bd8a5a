"""Click through the page of `gan-experiments demo` in a real browser: `python benchmarks/demo.py run=RUN run=RUN ...`.

For each run it starts the page, draws, edits, translates and downloads as a person does, wide and narrow, light and
dark, and saves screenshots. It tells what went wrong: errors of scripts, addresses elsewhere, what a screen reader
could not name, what is wider than the screen. It needs Chromium, and does nothing where there is none.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from gan_experiments import provenance

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
SIZES = {"wide": (1200, 900), "narrow": (400, 800)}
TOLD = re.compile(r"(http://\S+)")
NAMED = ("button", "textbox", "spinbutton", "slider", "combobox", "link", "image")
"""Roles of which a screen reader says the name."""


class Browser:
    """A headless Chromium, driven by the DevTools protocol over a pipe."""

    def __init__(self, program: str, folder: Path) -> None:
        down, up = os.pipe(), os.pipe()
        words = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
        words += ["--remote-debugging-pipe", f"--user-data-dir={folder}", "--force-color-profile=srgb", "about:blank"]
        piped = ["sh", "-c", f'exec "$@" 3<&{down[0]} 4>&{up[1]}', "sh", program, *words]
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(piped, pass_fds=(down[0], up[1]), stdout=quiet, stderr=quiet)
        os.close(down[0])
        os.close(up[1])
        self.out, self.into, self.rest = down[1], up[0], b""
        self.number, self.session = 0, ""
        self.events: list[dict[str, Any]] = []
        self.downloads = folder / "downloads"
        self.downloads.mkdir()
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.downloads))
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "DOM", "Accessibility"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **given: Any) -> Any:
        """Return what a method answers; what happens meanwhile is kept in `events`."""
        self.number += 1
        asked = {"id": self.number, "method": method, "params": given}
        asked |= {"sessionId": self.session} if self.session else {}
        os.write(self.out, json.dumps(asked).encode() + b"\0")
        while True:
            told = self._message()
            if told.get("id") == self.number:
                if "error" in told:
                    raise RuntimeError(f"{method}: {told['error']}")
                return told["result"]
            self.events.append(told)

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self.rest:
            read = os.read(self.into, 1 << 20)
            if not read:
                raise RuntimeError("the browser has ended")
            self.rest += read
        message, _, self.rest = self.rest.partition(b"\0")
        return json.loads(message)

    def js(self, expression: str) -> Any:
        """Return the value of an expression, awaited, in the page."""
        told = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in told:
            raise RuntimeError(f"{expression}: {told['exceptionDetails']}")
        return told["result"].get("value")

    def until(self, expression: str, seconds: float = 60.0) -> None:
        """Wait until an expression is true and nothing of the page is busy."""
        end = time.monotonic() + seconds
        while not self.js(f"Boolean({expression}) && !document.querySelector('[aria-busy]')"):
            if time.monotonic() > end:
                raise RuntimeError(f"after {seconds:.0f} s it is not so: {expression}")
            time.sleep(0.05)

    def click(self, selector: str) -> None:
        """Press the mouse in the middle of an element."""
        self.js(f"document.querySelector({selector!r}).scrollIntoView({{block: 'center'}})")
        box = self.box(selector)
        at = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2, "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, buttons=int(kind == "mousePressed"), **at)

    def drag(self, selector: str, places: list[tuple[float, float]]) -> None:
        """Press the mouse and move over places of an element, in parts of its sides."""
        box = self.box(selector)
        steps = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in places]
        kinds = ["mousePressed", *["mouseMoved"] * (len(steps) - 1)]
        for kind, (x, y) in zip(kinds, steps, strict=True):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)
        self.call("Input.dispatchMouseEvent", type="mouseReleased", x=x, y=y, button="left", clickCount=1)

    def box(self, selector: str) -> dict[str, float]:
        """Return where an element is on the screen."""
        found = self.js(f"JSON.stringify(document.querySelector({selector!r}).getBoundingClientRect())")
        return json.loads(found)

    def key(self, name: str, code: int) -> None:
        """Press a key."""
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if name == "Enter" and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code, **text)

    def look(self, width: int, height: int, dark: bool) -> None:
        """Set the size of the screen, narrow ones with touch, and light or dark."""
        narrow = width < 600
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=narrow)
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def picture(self, path: Path) -> None:
        """Save the whole page as a PNG."""
        told = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(told["data"]))

    def faults(self, address: str) -> list[str]:
        """Return errors of scripts, refused loads and requests to other addresses since the last time."""
        found = []
        for event in self.events:
            given = event.get("params", {})
            if event.get("method") == "Runtime.exceptionThrown":
                found.append(str(given["exceptionDetails"].get("exception", {}).get("description", given)))
            elif event.get("method") == "Log.entryAdded" and given["entry"]["level"] == "error":
                found.append(given["entry"]["text"])
            elif event.get("method") == "Network.requestWillBeSent":
                url = given["request"]["url"]
                found += [] if url.startswith((address, "data:", "blob:", "about:")) else [f"asks {url}"]
        self.events.clear()
        return found

    def unnamed(self) -> list[str]:
        """Return the roles of what a screen reader has no name for."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [
            node["role"]["value"]
            for node in nodes
            if not node.get("ignored")
            and node.get("role", {}).get("value") in NAMED
            and not node.get("name", {}).get("value", "").strip()
        ]

    def close(self) -> None:
        """End the browser."""
        with contextlib.suppress(Exception):
            self.call("Browser.close")
        self.process.wait(20)


@contextlib.contextmanager
def demo(words: list[str]) -> Iterator[str]:
    """Yield the address of `gan-experiments demo` with these words, and end it."""
    command = [sys.executable, "-m", "gan_experiments", "demo", *words, "port=0", "device=cpu"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        told = next((found for line in process.stdout if (found := TOLD.search(line))), None)
        if told is None:
            raise RuntimeError(f"demo {' '.join(words)} has not begun")
        yield told[1].rstrip("/")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def set_value(browser: Browser, selector: str, value: object) -> None:
    """Set a field or a slider as a person does: with its events."""
    browser.js(
        f"(() => {{ const one = document.querySelector({selector!r}); one.value = {json.dumps(str(value))};"
        "for (const kind of ['input', 'change']) one.dispatchEvent(new Event(kind, {bubbles: true})); })()"
    )


def downloaded(browser: Browser, selector: str) -> tuple[Image.Image, str]:
    """Click on a link for a download; return the picture in the file, and its name."""
    for path in browser.downloads.iterdir():
        path.unlink()
    browser.click(selector)
    end = time.monotonic() + 30
    while not (found := [path for path in browser.downloads.glob("*.png")]):
        if time.monotonic() > end:
            raise RuntimeError(f"{selector} downloads nothing")
        time.sleep(0.1)
    with Image.open(io.BytesIO(found[0].read_bytes())) as image:
        image.load()
        return image, found[0].name


def drawn(browser: Browser) -> list[str]:
    """Draw, choose and edit; return what was seen."""
    said = []
    browser.until("document.querySelectorAll('#gallery img').length > 1")
    before = browser.js("document.querySelector('#gallery img').src")
    browser.click("#another")
    browser.until(f"document.querySelector('#gallery img').src !== {json.dumps(before)}")
    set_value(browser, "#seed", 3)
    if not browser.js("document.querySelector('#class-field').hidden"):
        said.append(f"{browser.js('document.querySelector(`#class`).options.length') - 1} classes")
    if not browser.js("document.querySelector('#caption-field').hidden"):
        known = browser.js("fetch('/models').then(told => told.json()).then(told => told.models[0].words)")
        set_value(browser, "#caption", " ".join(known[:3]))
        said.append(f"captions of {len(known)} words")
    set_value(browser, "#n", 10)
    before = browser.js("document.querySelector('#gallery img').src")
    browser.js("document.querySelector('#seed').focus()")
    browser.key("Enter", 13)
    browser.until(f"document.querySelector('#gallery img').src !== {json.dumps(before)}")
    browser.click("#gallery button:nth-child(3)")
    browser.until("document.querySelector('#after').naturalWidth > 0")
    image, name = downloaded(browser, "#download")
    mark = provenance.of_xmp(image.info.get("xmp", b""))
    said.append(f"marked {mark.model}, seed {mark.seed}" if mark else "NOT MARKED")
    steps = {"#direction-0": 4, "#styles": "coarse", "#share": 0.5}
    for selector, value in steps.items():
        if browser.js(f"Boolean(document.querySelector({selector!r})?.offsetParent)"):
            before = browser.js("document.querySelector('#after').src")
            set_value(browser, selector, value)
            browser.until(f"document.querySelector('#after').src !== {json.dumps(before)}")
            made, _ = downloaded(browser, "#download")
            said.append(f"{selector} {'changes it' if made.tobytes() != image.tobytes() else 'CHANGES NOTHING'}")
            image = made
    if browser.js("Boolean(document.querySelector('#walk').offsetParent)"):
        browser.click("#walk")
        browser.until("document.querySelector('#share').value === '1'")
        browser.click("#reset")
        browser.until("document.querySelector('#share').value === '0'")
        set_value(browser, "#direction-0", 3) if browser.js("Boolean(document.querySelector('#direction-0'))") else None
        set_value(browser, "#share", 0.3)
        browser.until("true")
    return [*said, f"downloads {name}"]


def translated(browser: Browser) -> list[str]:
    """Drop an image on the page, paint a hole where there is one, and translate; return what was seen."""
    picture, file = Image.new("RGB", (96, 64), "#7aa"), io.BytesIO()
    ImageDraw.Draw(picture).ellipse((20, 10, 70, 54), "#c63")
    picture.save(file, "PNG")
    coded = base64.b64encode(file.getvalue()).decode()
    browser.js(
        f"(() => {{ const bytes = Uint8Array.from(atob('{coded}'), one => one.charCodeAt(0));"
        "const all = new DataTransfer(); all.items.add(new File([bytes], 'photo.png', {type: 'image/png'}));"
        "document.querySelector('#drop').dispatchEvent(new DragEvent('drop', {dataTransfer: all, bubbles: true,"
        "cancelable: true})); })()"
    )
    browser.until("document.querySelector('#input').naturalWidth === 96 && !document.querySelector('#go').disabled")
    said = [f"directions {browser.js('[...document.querySelector(`#to`).options].map(one => one.value).join()')}"]
    if browser.js("Boolean(document.querySelector('#paint').offsetParent)"):
        browser.click("#go")
        browser.until("!document.querySelector('#error').hidden")
        said.append(f"without a hole: {browser.js('document.querySelector(`#error`).textContent')}")
        browser.js("document.querySelector('#paint').scrollIntoView({block: 'center'})")
        browser.drag("#paint", [(0.4, 0.4), (0.5, 0.5), (0.6, 0.5)])
    browser.click("#go")
    browser.until("document.querySelector('#result').naturalWidth > 0 && document.querySelector('#error').hidden", 120)
    made, name = downloaded(browser, "#translate-download")
    mark = provenance.of_xmp(made.info.get("xmp", b""))
    said.append(f"{made.width}x{made.height}, {'composite' if mark and mark.composite else 'NOT MARKED'}")
    return [*said, f"downloads {name}"]


def visit(browser: Browser, run: str, out: Path) -> bool:
    """Click through the page of a run in all looks; return True if nothing went wrong."""
    good, name = True, Path(run).name
    with demo([f"run={run}"]) as address:
        for size, (width, height) in SIZES.items():
            for dark in (False, True):
                browser.look(width, height, dark)
                browser.events.clear()
                browser.call("Page.navigate", url=f"{address}/")
                browser.until("document.querySelector('#about')?.textContent.includes('images seen')")
                draws = not browser.js("document.querySelector('#draw').hidden")
                said = drawn(browser) if draws else translated(browser)
                faults = [*browser.faults(address), *(f"no name: {role}" for role in browser.unnamed())]
                wide = browser.js("document.documentElement.scrollWidth")
                faults += [f"{wide} pixels wide on a screen of {width}"] if wide > width else []
                faults += [line for line in said if line.upper() == line or "NOT" in line or "NOTHING" in line]
                browser.js("document.activeElement.blur(); scrollTo(0, 0)")
                look = f"{name}-{size}-{'dark' if dark else 'light'}"
                browser.picture(out / f"{look}.png")
                print(f"{look}: {'; '.join(said)}{''.join(f'; FAULT {fault}' for fault in faults)}", flush=True)
                good = good and not faults
    return good


def main() -> int:
    """Visit the page of each run. Return 0, or 1 if something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="run=RUN", help="a run folder; once for each")
    parser.add_argument("--out", type=Path, default=Path("outputs/demo"), help="a folder for the screenshots")
    given = parser.parse_args()
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        print(f"demo: no browser is here ({', '.join(BROWSERS[:3])}); nothing was done")
        return 0
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        browser = Browser(program, Path(folder))
        try:
            return int(not all([visit(browser, run.removeprefix("run="), given.out) for run in given.runs]))
        finally:
            browser.close()


if __name__ == "__main__":
    sys.exit(main())
