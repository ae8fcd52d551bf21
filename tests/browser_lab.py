"""A reader's hands: notebooks in a real JupyterLab and a headless Chromium, every control used.

    python tests/browser_lab.py [--stored] [--theme light|dark] [--pictures FOLDER] NOTEBOOK ...

Each slider is dragged with the mouse and stepped back with the keyboard, each drop-down list and check box is changed
with the one and changed back with the other, all buttons are pressed in turn, first with the keyboard, then with the
mouse; the picture in the cell's output must change, and return with the control. Before anything runs it looks at what
a reader sees on opening the file and trusting it, and moves the sliders that need no kernel; `--stored` stops there.
Two classes tell this program what to expect: a control with the class `waits-for-button` changes no picture by itself
(it sets what a button does next), and a button with the class `no-picture` changes none either. Exit status 0 means
that no problem was found.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import nbformat
from nbformat.sign import NotebookNotary

ROOT = Path(__file__).resolve().parents[1]
BROKEN_WIDGET = ("Loading widget", "Error displaying widget", "model not found", "Failed to load model")
PATIENCE = 120.0  # seconds that anything in the browser may take; drawing takes one or two on a busy machine

OPEN = """async path => {
  const notebook = await window.jupyterapp.commands.execute('docmanager:open', { path });
  await notebook.context.ready; await notebook.revealed; await notebook.sessionContext.ready; }"""

# Without asking whether to save: to a kernel that has run, every notebook has changed.
CLOSE = """async () => {
  const notebook = window.jupyterapp.shell.currentWidget;
  await notebook.sessionContext.shutdown();
  notebook.dispose(); }"""

# For a kernel when it starts: the figures of cells are made, but not drawn. Pictures with controls are.
UNDRAWN = """
import sys

def show(fig, alt, dpi=100):
    print(alt)

def replace_show(_):
    if hasattr(sys.modules.get("helpers.draw.figures"), "show"):
        sys.modules["helpers.draw.figures"].show = show
        get_ipython().events.unregister("pre_run_cell", replace_show)

get_ipython().events.register("pre_run_cell", replace_show)
"""

# Run All's own promise is no use: it settles at the first error, also at one that a tag allows.
RUN_ALL = """async seconds => {
  const notebook = window.jupyterapp.shell.currentWidget;
  const cells = notebook.content.widgets.filter(
    cell => cell.model.type === 'code' && cell.model.sharedModel.source.trim());
  window.jupyterapp.commands.execute('notebook:run-all-cells').catch(() => 0);
  const end = Date.now() + seconds * 1000;
  let busy = Date.now();
  while (Date.now() < end) {
    const idle = notebook.sessionContext.kernelDisplayStatus === 'idle'
      && !cells.some(cell => cell.model.executionState === 'running');
    if (!idle) busy = Date.now();
    if (idle && cells.every(cell => cell.model.executionCount)) return 'done';
    if (Date.now() - busy > 30000) return 'stopped early';
    await new Promise(resolve => setTimeout(resolve, 100));
  }
  return 'took too long'; }"""

CELLS = """() => window.jupyterapp.shell.currentWidget.content.widgets.map((widget, index) => {
  const outputs = widget.model.type === 'code' ? widget.model.outputs.toJSON() : [];
  return { index, code: widget.model.type === 'code', id: widget.model.id,
    tags: [...(widget.model.getMetadata('tags') || [])],
    ran: Boolean(widget.model.executionCount),
    pictures: outputs.filter(output => output.data && output.data['image/png']).length,
    outputs: outputs.length,
    error: outputs.some(output => output.output_type === 'error') }; })"""

# A name for every picture shown in an output, made of its file's bytes, so that the same picture has the same name
# whenever it was drawn. Once for each address: a new picture comes with a new one, and the page is asked all the time.
PICTURES = """async output => {
  const names = window.namesOfPictures ??= new Map(), found = [];
  for (const image of output.querySelectorAll('img')) {
    if (!image.complete) await image.decode().catch(() => 0);
    if (!image.naturalWidth) continue;
    if (!names.has(image.src)) {
      const bytes = await (await fetch(image.src)).arrayBuffer();
      const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
      names.set(image.src, Array.from(digest, byte => byte.toString(16).padStart(2, '0')).join(''));
    }
    found.push(names.get(image.src));
  }
  return found; }"""


def find_chromium() -> str | None:
    """Path of the system's Chromium or Chrome, or what the variable CHROMIUM names, or None."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


def require_browser(what: str, *packages: str) -> None:
    """Skip, or where REQUIRE_BROWSER is set fail, with what is missing for it: these packages, or a Chromium."""
    import pytest  # this file is also a program, which does without

    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    missing += [] if find_chromium() else ["chromium"]
    if missing:
        complain = pytest.fail if os.environ.get("REQUIRE_BROWSER") else pytest.skip
        complain(f"no {what} without {' and '.join(missing)}")


class JupyterLab:
    """JupyterLab on a loopback port, its own settings, in a folder where notebooks find the helpers."""

    def __init__(self, environment: dict[str, str], theme: str, drawn: bool):
        self.folder = Path(tempfile.mkdtemp(prefix="browser-lab-"))
        self.port, self.token = free_port(), secrets.token_hex(16)
        work = self.folder / "work"
        (work / "notebooks").mkdir(parents=True)
        for name in ("helpers", "data"):
            if (ROOT / name).is_dir():
                (work / name).symlink_to(ROOT / name, target_is_directory=True)
        self._write_settings(theme)
        if not drawn:
            start = self.folder / "ipython" / "profile_default" / "startup" / "undrawn.py"
            start.parent.mkdir(parents=True)
            start.write_text(UNDRAWN, encoding="utf-8")
        places = {
            "JUPYTER_CONFIG_DIR": "config",
            "JUPYTER_RUNTIME_DIR": "runtime",
            "JUPYTERLAB_SETTINGS_DIR": "settings",
            "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
            "IPYTHONDIR": "ipython",
        }
        environment = {**os.environ, **environment, "JUPYTER_PLATFORM_DIRS": "1"}
        places["JUPYTER_DATA_DIR"] = "data"  # where trust is kept
        environment |= {variable: str(self.folder / name) for variable, name in places.items()}
        command = [
            sys.executable,
            "-m",
            "jupyterlab",
            "--no-browser",
            "--allow-root",
            "--expose-app-in-browser",
        ]
        options = {
            "ServerApp.ip": "127.0.0.1",
            "ServerApp.port": self.port,
            "ServerApp.port_retries": 0,
            "ServerApp.root_dir": work,
            "IdentityProvider.token": self.token,
        }
        command += [f"--{name}={value}" for name, value in options.items()]
        self.log = (self.folder / "lab.log").open("w")
        # A session of its own, so that stop() ends this server and its kernels and nothing else.
        self.process = subprocess.Popen(
            command, env=environment, stdout=self.log, stderr=self.log, start_new_session=True
        )

    def _write_settings(self, theme: str) -> None:
        settings = {
            "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
            "@jupyterlab/apputils-extension/themes": {"theme": f"JupyterLab {theme.capitalize()}"},
            # Otherwise cells outside the window leave the page.
            "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
        }
        for plugin, values in settings.items():
            path = self.folder / "settings" / f"{plugin}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(values), encoding="utf-8")

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def add(self, notebook: Path) -> str:
        """Copies a notebook to where it can be opened, and trusts it; returns its path there."""
        copy = self.folder / "work" / "notebooks" / notebook.name
        shutil.copyfile(notebook, copy)
        NotebookNotary(data_dir=str(self.folder / "data")).sign(nbformat.read(copy, as_version=4))
        return f"notebooks/{notebook.name}"

    def wait_until_up(self, seconds: float = 300) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.address}/api/status?token={self.token}", timeout=10).read()
                return
            except OSError:
                time.sleep(0.2)
        raise RuntimeError("JupyterLab did not start:\n" + (self.folder / "lab.log").read_text()[-3000:])

    def stop(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def reader(environment: dict[str, str], theme: str = "light", drawn: bool = True):
    """A JupyterLab and a Chromium on it; yields a function (notebook, stored, pictures) -> Visit.

    drawn: also draw figures without controls when a notebook runs
    """
    from playwright.sync_api import sync_playwright

    lab = JupyterLab(environment, theme, drawn)
    try:
        lab.wait_until_up()
        with sync_playwright() as playwright:
            # A sandbox needs rights that containers do not give; only our own server is visited.
            arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
            browser = playwright.chromium.launch(executable_path=find_chromium(), args=arguments)
            try:
                tab = Tab(browser, lab)
                yield lambda notebook, **options: visit(tab, notebook, **options)
            finally:
                browser.close()
    finally:
        lab.stop()


class Tab:
    """A tab with JupyterLab in which one notebook after another is opened: to start it would take most of a visit."""

    def __init__(self, browser, lab: JupyterLab):
        self.browser, self.lab = browser, lab
        self._page = None

    @contextmanager
    def showing(self, notebook: Path):
        """Yields the page with a notebook, and a list that the page's errors are added to.

        After a failure the next notebook gets a new tab.
        """
        problems = []

        def note(error):
            problems.append(f"page error: {str(error)[:200]}")

        try:
            page = self._started()
            page.on("pageerror", note)
            ask(page, OPEN, self.lab.add(notebook))
            session = "window.jupyterapp.shell.currentWidget?.sessionContext"
            page.wait_for_function(f"{session}?.kernelDisplayStatus === 'idle'")
            page.wait_for_timeout(500)
            yield page, problems
            ask(page, CLOSE)
            page.remove_listener("pageerror", note)
        except BaseException:
            if self._page:
                self._page.context.close()
                self._page = None
            raise

    def _started(self):
        if self._page is None:
            context = self.browser.new_context(viewport={"width": 1280, "height": 1000})
            context.set_default_timeout(1000 * PATIENCE)
            self._page = context.new_page()
            self._page.goto(f"{self.lab.address}/lab?reset&token={self.lab.token}", wait_until="domcontentloaded")
            self._page.wait_for_function("window.jupyterapp")
            ask(self._page, "async () => { await window.jupyterapp.restored; }")
        return self._page


class Visit:
    """One notebook open in the browser, and the problems found in it."""

    def __init__(self, page, notebook: Path, pictures: Path | None, problems: list[str]):
        self.page, self.notebook, self.pictures, self.problems = page, notebook, pictures, problems
        self.controls = self.figures = 0

    def check(self, good, cell: dict, problem: str) -> None:
        if not good:
            self.problems.append(f"cell {cell['id']}: {problem}")

    def run_all(self, seconds: float) -> None:
        ask(self.page, "async () => { await window.jupyterapp.commands.execute('notebook:clear-all-cell-outputs'); }")
        end = ask(self.page, RUN_ALL, seconds, seconds + PATIENCE)
        if end != "done":
            self.problems.append(f"Run All {end}")

    def look_at_cells(self, stored: bool) -> None:
        self.controls = self.figures = 0  # those of the last look
        cells = ask(self.page, CELLS)
        shown = self.page.locator(".jp-Notebook .jp-Cell")
        soon(lambda: shown.count() == len(cells))
        if shown.count() != len(cells):
            self.problems.append(f"the page shows {shown.count()} cells of {len(cells)}")
            return
        for cell in (cell for cell in cells if cell["code"]):
            self.check(cell["ran"], cell, "was not run")
            self.check(not cell["error"] or "raises-exception" in cell["tags"], cell, "shows an error")
            element = shown.nth(cell["index"])
            if not element.is_visible():
                # In JupyterLab the left arrow folds a section, unless the control keeps its keys to itself.
                self.check(False, cell, "is hidden: a control lacks data-lm-suppress-shortcuts='true'")
                return
            if not cell["outputs"]:  # every question to the page takes its time
                continue
            text = element.inner_text()
            for message in BROKEN_WIDGET:
                self.check(message not in text, cell, f"shows {message!r}")
            images = pictures_in(element)
            if stored and len(images) < cell["pictures"]:
                soon(lambda element=element, cell=cell: len(pictures_in(element)) >= cell["pictures"])
                images = pictures_in(element)
            self.figures += len(images)
            self.check(len(images) >= cell["pictures"] or not stored, cell, "a stored picture is not shown")
            if not stored:
                self.photograph(element, cell)
                self.use_controls(element, cell)
            self.use_kernel_free_controls(element, cell)
        if stored:
            self.check(self.figures, {"id": "any"}, "no picture at all")
            if self.pictures:
                self.page.screenshot(path=self.picture_path("stored"))

    def picture_path(self, name: str) -> Path:
        self.pictures.mkdir(parents=True, exist_ok=True)
        return self.pictures / f"{self.notebook.stem}-{name}.png"

    def photograph(self, element, cell: dict) -> None:
        if self.pictures and element.locator("img, .jupyter-widgets").count():
            element.scroll_into_view_if_needed()
            element.screenshot(path=self.picture_path(cell["id"]))

    def use_controls(self, element, cell: dict) -> None:
        output = element.locator(".jp-Cell-outputWrapper")
        for number in range(output.locator(".noUi-handle").count()):
            self.use_slider(element, cell, NoUiSlider(self.page, output, number))
        # Buttons first: the last one of a laboratory starts it again, which is where its lists lead back to.
        buttons = output.locator("button.jupyter-button")
        self.controls += buttons.count()
        for with_mouse in (False, True):
            for number in range(buttons.count()):
                self.use_button(element, cell, buttons.nth(number), with_mouse)
        lists = output.locator(".widget-dropdown select")
        for number in range(lists.count()):
            self.use_list(element, cell, lists.nth(number))
        boxes = output.locator(".widget-checkbox input")
        for number in range(boxes.count()):
            self.use_check_box(element, cell, boxes.nth(number))

    def use_kernel_free_controls(self, element, cell: dict) -> None:
        output = element.locator(".jp-Cell-outputWrapper")
        places, frames = [output], output.locator("iframe")
        for number in range(frames.count()):
            frames.nth(number).scroll_into_view_if_needed()  # out of sight nothing in it is ever stable
            places.append(output.frame_locator("iframe").nth(number))
        for place in places:
            for number in range(place.locator("input[type=range]").count()):
                self.use_slider(element, cell, RangeInput(self.page, place, number))

    def use_slider(self, element, cell: dict, slider) -> None:
        if not slider.usable():
            return
        self.controls += 1
        before, start = fingerprint(element), slider.value()
        silent = waits_for_button(slider.handle) or before is None
        slider.drag_away()
        moved = slider.value()
        self.check(moved != start, cell, f"a slider stayed at {start} when dragged")
        if not silent:
            self.check(wait_for(element, lambda now: now != before), cell, f"same picture at {start} and {moved}")
        slider.step_back_to(start)
        self.check(slider.value() == start, cell, f"the keyboard did not bring a slider back to {start}")
        if not silent:
            returned = wait_for(element, lambda now: now == before)
            self.check(returned, cell, f"the picture for {start} did not return")

    def use_list(self, element, cell: dict, choice) -> None:
        if not choice.is_enabled() or choice.locator("option").count() < 2:
            return
        self.controls += 1
        before, start = fingerprint(element), choice.evaluate("list => list.selectedIndex")
        silent = waits_for_button(choice) or before is None
        choice.select_option(index=0 if start else 1)
        if not silent:
            self.check(wait_for(element, lambda now: now != before), cell, "a list does not change the picture")
        # The space bar opens the list. While it is closed, arrow keys are JupyterLab's own and select the next cell.
        for pause in (200, 1000, 3000):  # on a busy machine the list opens late
            choice.focus()
            for key in ("Space", "ArrowDown" if start else "ArrowUp", "Enter"):
                self.page.keyboard.press(key)
                self.page.wait_for_timeout(pause)
            chosen = choice.evaluate("list => list.selectedIndex")
            if chosen == start:
                break
        self.check(chosen == start, cell, f"the keyboard did not bring a list back from {chosen} to {start}")
        if not silent:
            self.check(wait_for(element, lambda now: now == before), cell, "the list's picture did not return")

    def use_check_box(self, element, cell: dict, box) -> None:
        if not box.is_enabled():
            return
        self.controls += 1
        before, silent = fingerprint(element), waits_for_button(box)
        box.click()
        if not silent:
            self.check(wait_for(element, lambda now: now != before), cell, "a check box does not change the picture")
        box.focus()
        self.page.keyboard.press("Space")
        if not silent:
            self.check(wait_for(element, lambda now: now == before), cell, "the check box's picture did not return")

    def use_button(self, element, cell: dict, button, with_mouse: bool) -> None:
        if not button.is_visible() or not button.is_enabled():
            return
        before, name = fingerprint(element), button.inner_text()
        silent = before is None or button.evaluate("button => Boolean(button.closest('.no-picture'))")
        button.scroll_into_view_if_needed()
        if with_mouse:
            button.click()
        else:
            button.focus()
            self.page.keyboard.press("Enter")
        if silent:
            self.page.wait_for_timeout(500)
        else:
            how = "mouse" if with_mouse else "keyboard"
            self.check(wait_for(element, lambda now: now != before), cell, f"button {name!r}, {how}: same picture")
        for message in ("Traceback", "Error:"):
            self.check(message not in element.inner_text(), cell, f"button {name!r} ends in an error")


class NoUiSlider:
    """A slider of ipywidgets."""

    def __init__(self, page, output, number: int):
        self.page = page
        self.handle = output.locator(".noUi-handle").nth(number)
        self.base = self.handle.locator("xpath=ancestor::*[contains(@class, 'noUi-base')]")

    def usable(self) -> bool:
        return self.handle.is_visible() and not self.handle.locator("xpath=ancestor::*[@disabled]").count()

    def value(self) -> str:
        return self.handle.get_attribute("aria-valuetext")

    def drag_away(self) -> None:
        """To the right end, or to the left end when it stands at the right one."""
        self.handle.scroll_into_view_if_needed()
        handle, base = self.handle.bounding_box(), self.base.bounding_box()
        x, y = handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2
        at_right_end = x > base["x"] + 0.9 * base["width"]
        target = base["x"] - 5 if at_right_end else base["x"] + base["width"] + 5
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        self.page.mouse.move((x + target) / 2, y, steps=5)
        self.page.mouse.move(target, y, steps=8)
        self.page.mouse.up()

    def step_back_to(self, value: str) -> None:
        self.handle.focus()
        key = "ArrowLeft" if float(self.value()) > float(value) else "ArrowRight"
        for _ in range(300):
            before = self.value()
            if before == value:
                return
            self.page.keyboard.press(key)
            if not soon(lambda before=before: self.value() != before):
                return


class RangeInput:
    """A plain HTML slider, as in outputs that need no kernel."""

    def __init__(self, page, output, number: int):
        self.page = page
        self.handle = output.locator("input[type=range]").nth(number)

    def usable(self) -> bool:
        several = self.handle.get_attribute("min") != self.handle.get_attribute("max")
        return several and self.handle.is_visible() and self.handle.is_enabled()

    def value(self) -> str:
        return self.handle.input_value()

    def drag_away(self) -> None:
        self.handle.scroll_into_view_if_needed()
        box = self.handle.bounding_box()
        least, most = (float(self.handle.get_attribute(name)) for name in ("min", "max"))
        share = (float(self.value()) - least) / (most - least)
        y = box["y"] + box["height"] / 2
        target = box["x"] + (3 if share > 0.9 else box["width"] - 3)
        self.page.mouse.move(box["x"] + 8 + share * (box["width"] - 16), y)
        self.page.mouse.down()
        self.page.mouse.move(target, y, steps=8)
        self.page.mouse.up()

    step_back_to = NoUiSlider.step_back_to


def waits_for_button(control) -> bool:
    return control.evaluate("control => Boolean(control.closest('.waits-for-button'))")


def pictures_in(element) -> list[str]:
    outputs = element.locator(".jp-Cell-outputWrapper")
    if not outputs.count():
        return []
    found = outputs.first.evaluate(PICTURES)
    for frame in outputs.first.locator("iframe").element_handles():
        found += frame.content_frame().locator("body").evaluate(PICTURES)
    return found


def fingerprint(element) -> str | None:
    """A short name for the pictures in a cell's output; None when there are none."""
    found = pictures_in(element)
    return hashlib.sha256("".join(found).encode()).hexdigest()[:12] if found else None


def ask(page, script: str, argument=None, seconds: float = PATIENCE):
    """What a function says in the page. Unlike ``evaluate`` it does not wait for ever on a page that hangs."""
    answer = f"async argument => [await ({script})(argument)]"
    return page.wait_for_function(answer, arg=argument, timeout=1000 * seconds).json_value()[0]


def soon(good, seconds: float = PATIENCE) -> bool:
    """Whether something becomes true before time runs out."""
    end = time.monotonic() + seconds
    while not (reached := good()) and time.monotonic() < end:
        time.sleep(0.05)
    return reached


def wait_for(element, good, seconds: float = PATIENCE) -> bool:
    """Whether good(fingerprint) becomes true, and still is a moment later, before time runs out.

    Waiting for the wanted picture and not for stillness: a late redraw of an earlier value would look still.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        now = fingerprint(element)
        if now is not None and good(now):
            time.sleep(0.3)
            now = fingerprint(element)
            if now is not None and good(now):
                return True
        time.sleep(0.15)
    return False


def visit(tab: Tab, notebook: Path, stored=False, pictures=None, seconds=600) -> Visit:
    """Opens a notebook and looks at what is stored; unless `stored`, runs it and uses its controls, too.

    Returns what was found.
    """
    with tab.showing(notebook) as (page, problems):
        result = Visit(page, notebook, pictures, problems)
        result.look_at_cells(stored=True)
        if not stored:
            result.run_all(seconds)
            result.look_at_cells(stored=False)
    return result


def main() -> int:
    sys.path.insert(0, str(ROOT))
    from tools.build_notebooks import kernel_environment

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument("--stored", action="store_true", help="run nothing, look at the stored outputs")
    parser.add_argument("--theme", default="light", choices=("light", "dark"))
    parser.add_argument("--profile", default="smoke", choices=("smoke", "quick", "full"))
    parser.add_argument("--pictures", type=Path, help="folder for screenshots of every figure and widget")
    arguments = parser.parse_args()
    problems = 0
    with reader(kernel_environment(arguments.profile), arguments.theme) as open_notebook:
        for notebook in arguments.notebooks:
            start = time.monotonic()
            found = open_notebook(notebook, stored=arguments.stored, pictures=arguments.pictures)
            print(
                f"{notebook.name}: {found.figures} pictures, {found.controls} controls used, "
                f"{len(found.problems)} problems, {time.monotonic() - start:.0f} s",
                *found.problems,
                sep="\n  ",
                flush=True,
            )
            problems += len(found.problems)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
