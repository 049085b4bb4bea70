"""A headless Chromium that a test drives through the DevTools protocol.

Keys are typed as a keyboard would: a test reaches what it uses with Tab and Enter.
"""

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

from tests.waiting import WITHIN_S, wait_until

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

_KEYS = {
    "Tab": {"code": "Tab", "windowsVirtualKeyCode": 9},
    "Enter": {"code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"},
}


_PROBLEMS = """(() => {
  const found = [], seen = (each) => each.getClientRects().length > 0;
  const all = (selector) => [...document.querySelectorAll(selector)].filter(seen);
  const named = "button, a, summary, input, select, textarea, meter, nav, section, " +
    "[role=img], [role=group]";
  for (const each of all(named)) {
    const by = each.getAttribute("aria-labelledby");
    const name = each.getAttribute("aria-label") || (by && document.getElementById(by)?.textContent) ||
      [...(each.labels ?? [])].map((label) => label.textContent).join("") ||
      (each.matches("button, a, summary") && each.textContent);
    if (!name || !name.trim()) found.push(`no name: ${each.outerHTML.slice(0, 80)}`);
  }
  for (const each of all("th:not([scope])")) found.push(`no scope: ${each.textContent}`);
  const ids = [...document.querySelectorAll("[id]")].map((each) => each.id);
  found.push(...ids.filter((id, at) => ids.indexOf(id) !== at).map((id) => `twice: ${id}`));
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map((one) => one / 255)
    .map((one) => one <= .04045 ? one / 12.92 : ((one + .055) / 1.055) ** 2.4)
    .reduce((sum, one, at) => sum + one * [.2126, .7152, .0722][at], 0);
  const ground = (each) => {
    for (let at = each; at; at = at.parentElement) {
      const color = rgba(getComputedStyle(at).backgroundColor);
      if (color[3] === 255) return color;
    }
    return [255, 255, 255];
  };
  for (const each of all("body *")) {
    const isText = (node) => node.nodeType === 3 && node.textContent.trim();
    if (![...each.childNodes].some(isText) || each.matches(":disabled, option, meter, title")) continue;
    const style = getComputedStyle(each);
    const own = rgba(each instanceof SVGElement ? style.fill : style.color);
    const [ink, paper] = [own, ground(each)].map(light);
    const contrast = (Math.max(ink, paper) + .05) / (Math.min(ink, paper) + .05);
    const text = each.textContent.trim().slice(0, 40);
    if (contrast < 4.5) found.push(`contrast ${contrast.toFixed(2)}: ${text}`);
  }
  return found;
})()"""

_MOVING = """(() => {
  const found = [];
  const look = (rules) => {
    for (const rule of rules) {
      if (rule.media && !matchMedia(rule.media.mediaText).matches) continue;
      const { animationName, transitionDuration, scrollBehavior } = rule.style ?? {};
      const says = [animationName, transitionDuration, scrollBehavior].filter(Boolean);
      if (says.some((text) => !["none", "0s", "auto"].includes(text))) found.push(rule.selectorText);
      if (rule.cssRules) look(rule.cssRules);
    }
  };
  for (const sheet of document.styleSheets) look(sheet.cssRules);
  return found;
})()"""


class Page:
    """One page; ``requested`` has the URL of every request that it made."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._number = 0
        self.requested: list[str] = []
        self.errors: list[str] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.command(f"{domain}.enable")

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command of the protocol."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=WITHIN_S))
            if message.get("id") == self._number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            self._note(message)

    def _note(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        if event["method"] == "Network.requestWillBeSent":
            self.requested.append(parameters["request"]["url"])
        elif event["method"] == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(parameters["exceptionDetails"]))

    def value(self, expression: str) -> Any:
        """The value of an expression in JavaScript."""
        found = self.command("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def text(self, element_id: str) -> str:
        """What an element shows."""
        found: str = self.value(f"document.getElementById({element_id!r})?.innerText ?? ''")
        return found

    def wait_for(self, element_id: str, part: str) -> None:
        """Waits until an element shows a text."""
        wait_until(lambda: part in self.text(element_id), f"{part!r} in {element_id}")

    def open(self, url: str) -> None:
        self.command("Page.navigate", url=url)
        wait_until(lambda: self.value("document.readyState") == "complete", url)

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self.command("Input.dispatchKeyEvent", type=kind, key=key, **_KEYS[key])

    def type(self, text: str) -> None:
        self.command("Input.insertText", text=text)

    def tab_to(self, element_id: str) -> None:
        """Presses Tab until an element has the focus."""
        for _ in range(60):
            if self.value("document.activeElement.id") == element_id:
                return
            self.press("Tab")
        raise AssertionError(f"{element_id} is not reached with Tab")

    def appear(self, width: int, height: int, scheme: str, *, still: bool = False) -> None:
        """Sets the size of the window, which has no scroll bars, the colour scheme, ``light`` or
        ``dark``, and whether the viewer has asked for less motion.
        """
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        self.command("Emulation.setScrollbarsHidden", hidden=True)
        motion = "reduce" if still else "no-preference"
        preferences = {"prefers-color-scheme": scheme, "prefers-reduced-motion": motion}
        features = [{"name": name, "value": value} for name, value in preferences.items()]
        self.command("Emulation.setEmulatedMedia", features=features)

    def problems(self) -> list[str]:
        """What keeps somebody from reading or using the page: controls and pictures without a name,
        cells of a table's head without a scope, ids that stand twice, and text with a contrast below
        4.5 (WCAG AA).
        """
        found: list[str] = self.value(_PROBLEMS)
        return found

    def moving(self) -> list[str]:
        """The selectors of all rules that apply now and move something: animations, transitions, and
        smooth scrolling.
        """
        found: list[str] = self.value(_MOVING)
        return found

    def screenshot(self, path: Path, width: int, scheme: str) -> None:
        """Writes the whole page as a PNG file. The window is as tall as the page: what lies outside of
        a window is painted later than it is captured.
        """
        self.appear(width, 900, scheme)
        self.appear(width, self.value("document.documentElement.scrollHeight"), scheme)
        found = self.command("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(found["data"]))


@contextmanager
def browsing(profile: Path) -> Iterator[Page]:
    """Runs a browser with an empty profile and one page until the block ends."""
    assert BROWSER
    command = [
        BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--disable-background-networking", "--no-first-run", "--disable-lcd-text",
        f"--user-data-dir={profile}", "--remote-debugging-port=0", "about:blank",
    ]  # fmt: skip
    port = profile / "DevToolsActivePort"
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: port.exists() and port.read_text().count("\n") > 0, "the browser")
            address = f"http://127.0.0.1:{port.read_text().splitlines()[0]}"
            [target] = [each for each in httpx.get(f"{address}/json").json() if each["type"] == "page"]
            with connect(target["webSocketDebuggerUrl"], max_size=None, ping_interval=None) as socket:
                yield Page(socket)
        finally:
            process.terminate()
            process.wait(WITHIN_S)
