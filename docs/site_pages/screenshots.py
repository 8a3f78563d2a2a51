"""Take the pictures of a run that docs/ shows: python docs/site_pages/screenshots.py runs/quickstart

Needs a Chromium, and `pip install playwright`. Writes to docs/screenshots: report.png (the report's first screen), samples.png
(samples at the edge) and tensorboard.png (CUSTOM SCALARS). The pictures have 256 colours, which keeps them small.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Locator, Page, sync_playwright

HERE = Path(__file__).parents[1] / "screenshots"
PORT = 6789


def opened(browser: Browser, address: str, height: int, ready: str) -> Page:
    """A page, once it has what `ready` selects."""
    page = browser.new_page(viewport={"width": 1280, "height": height})
    page.set_default_timeout(300_000)
    page.goto(address)
    page.locator(ready).first.wait_for()
    page.wait_for_timeout(5_000)  # animations
    return page


def keep(what: Page | Locator, name: str) -> None:
    """Keep a picture."""
    HERE.mkdir(exist_ok=True)
    what.screenshot(path=HERE / name)
    Image.open(HERE / name).convert("RGB").quantize(256).save(HERE / name, optimize=True)


def main(folder: Path) -> None:
    """Take all three."""
    board = [sys.executable, "-m", "tensorboard.main", "--logdir", folder, "--port", str(PORT), "--load_fast", "false"]
    with sync_playwright() as play, subprocess.Popen(board, stderr=subprocess.PIPE, text=True) as serving:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = opened(browser, (folder / "report.html").resolve().as_uri(), 1160, ".sample")
        keep(page, "report.png")
        page.locator(".arm").first.select_option(index=page.locator(".arm").first.locator("option").count() - 1)
        page.locator(".band").first.select_option("edge")
        page.locator(".kind").first.select_option("wrong")
        keep(page.locator(".browser").first, "samples.png")
        while "http" not in serving.stderr.readline():
            pass
        keep(opened(browser, f"http://localhost:{PORT}/#custom_scalars", 800, "vz-line-chart2 svg"), "tensorboard.png")
        browser.close()
        serving.terminate()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
