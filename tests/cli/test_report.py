"""``fixedpoint report``: the page of a small run, also in a browser."""

import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.image import imread

from browser import Browser, find_browser
from fp_potential.cli.main import main
from training_data import frames, training_file, write_frames

SECTIONS = [
    "Overview",
    "Learning curves",
    "Errors",
    "Parity",
    "Self-consistency",
    "Charges on the structure",
    "Timing",
    "Data",
    "Configuration",
]
READY = "document.getElementById('viewer').dataset.ready === 'true'"

needs_browser = pytest.mark.skipif(
    find_browser() is None, reason="no Chromium on this machine (Debian: apt-get install chromium)"
)


class Page(HTMLParser):
    """Headings, text, images and everything that could ask the network for something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.images: dict[str, str] = {}
        self.addresses: list[str] = []
        self.text: list[str] = []
        self._inside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag not in ("meta", "img", "input", "link"):
            self._inside.append(tag)
        if tag == "img":
            self.images[values["alt"]] = values["src"]
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]

    def handle_endtag(self, tag):
        if tag in self._inside:
            while self._inside.pop() != tag:
                pass

    def handle_data(self, data):
        if self._inside and self._inside[-1] == "h2":
            self.headings.append(data)
        if not {"script", "style"} & set(self._inside):
            self.text.append(data)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reported")
    assert main(["train", str(training_file(folder, write_frames(folder / "frames.xyz")))]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def report(run):
    assert main(["report", str(run), "--num_scf_steps", "150", "--traceback"]) == 0
    return run / "report.html"


def test_page_holds_everything(report):
    page = Page(report.read_text(encoding="utf-8"))
    assert page.headings == SECTIONS
    assert report.stat().st_size < 3e6
    curves = ["loss", "energy [meV/atom]", "forces [meV/Å]", "charges [me]", "dipole [me·Å]", "learning rate"]
    parity = ["energy above the E0s", "forces", "charges", "atomic dipoles", "dipole", "Fermi level"]
    assert {*curves, *parity, "time per epoch"} <= set(page.images)
    text = " ".join(" ".join(page.text).split())
    for wanted in ("constant Fermi level, from the data", "Test set, constant charge", "Valid set, constant charge",
                   "Train set, constant charge", "E0 of Na", "fixed_point_training_options"):  # fmt: skip
        assert wanted in text
    # all that is asked for is in the page
    assert all(address.startswith(("data:image/svg+xml;base64,", "#")) for address in page.addresses)


def test_errors_are_those_of_eval(report, run, tmp_path, capsys):
    assert main(["export", str(run), str(tmp_path / "model.pt")]) == 0
    capsys.readouterr()
    words = ["eval", str(tmp_path / "model.pt"), str(run.parent / "frames.xyz"), "--split", "test"]
    main([*words, "--num_scf_steps", "150"])
    table = capsys.readouterr().out.splitlines()
    row = next(line for line in table if line.startswith("all"))
    cells = [cell for cell in row.split("  ") if cell.strip()]
    page = report.read_text(encoding="utf-8")
    assert len(cells) == 11
    for cell in cells[3:9]:
        assert f"<td>{cell.strip()}</td>" in page


@needs_browser
def test_page_in_a_browser(report, tmp_path):
    """No error, no warning and no request; the viewer draws charges and follows its controls."""
    with Browser(find_browser(), tmp_path / "profile") as browser:
        browser.open(report)
        browser.wait(READY)
        options = browser.evaluate("document.getElementById('viewer-frame').options.length")
        assert options == 3  # two clusters and one box
        assert browser.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
        assert browser.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        legend = "document.getElementById('viewer-legend').textContent"
        seen = {browser.evaluate(legend)}
        for quantity in ("reference", "difference", "force_error"):
            browser.evaluate(_choose("viewer-quantity", quantity))
            seen.add(browser.evaluate(legend))
        assert len(seen) == 4
        browser.evaluate(_choose("viewer-quantity", "charges"))
        browser.evaluate("document.getElementById('viewer-dipoles').click()")
        browser.evaluate(_choose("viewer-frame", str(options - 1)))
        browser.evaluate("document.getElementById('viewer').scrollIntoView()")
        browser.screenshot(tmp_path / "view.png")
        red, green, blue = imread(tmp_path / "view.png")[..., :3].reshape(-1, 3).T
        for name, pixels in {
            "negative charges": (red > 0.6) & (green < 0.4) & (blue < 0.4),
            "positive charges": (blue > 0.5) & (red < 0.45) & (green < 0.6) & (blue - green > 0.15),
            "dipoles": (green > 0.3) & (green - red > 0.15) & (green - blue > 0.05),
        }.items():
            assert np.sum(pixels) > 50, name
    assert browser.seen.problems == [] and browser.seen.requests == []


@needs_browser
def test_browser_sees_what_is_wrong(report, tmp_path):
    """The test above can fail: a page that errs and asks the network is found out, and a report cannot ask it."""
    broken = tmp_path / "broken.html"
    broken.write_text(
        "<!doctype html><img src='http://example.com/a.png'><script>console.error('first');"
        "fetch('https://example.com/b').catch(() => 0); missing_function();</script>"
    )
    altered = tmp_path / "altered.html"
    text = report.read_text(encoding="utf-8")
    altered.write_text(
        text.replace("</body>", "<script>fetch('https://example.com/c').catch(() => 0);</script></body>"),
        encoding="utf-8",
    )
    with Browser(find_browser(), tmp_path / "profile") as browser:
        browser.open(broken)
        problems = "\n".join(browser.seen.problems)
        assert "first" in problems and "missing_function is not defined" in problems
        assert {"http://example.com/a.png", "https://example.com/b"} <= set(browser.seen.requests)
        browser.seen.problems.clear()
        browser.seen.requests.clear()
        browser.open(altered)
        browser.wait(READY)
        assert any("Content Security Policy" in problem for problem in browser.seen.problems)


@needs_browser
def test_page_without_webgl_says_so(report, tmp_path):
    text = report.read_text(encoding="utf-8")
    script = "<script>HTMLCanvasElement.prototype.getContext = () => null;</script></head>"
    page = tmp_path / "page.html"
    page.write_text(text.replace("</head>", script), encoding="utf-8")
    with Browser(find_browser(), tmp_path / "profile") as browser:
        browser.open(page)
        message = browser.evaluate("document.getElementById('viewer-message').textContent")
    assert "needs WebGL" in message and browser.seen.problems == []


def _choose(element: str, value: str) -> str:
    return (
        f"(() => {{ const e = document.getElementById('{element}'); e.value = '{value}'; "
        "e.dispatchEvent(new Event('change')); })()"
    )


def test_run_that_still_goes_without_test_set(run, tmp_path, capsys):
    """Half of the epochs, no test set: reported on the validation set."""
    folder = tmp_path / "unfinished"
    content = frames()
    for atoms in content:
        atoms.info["split"] = "train"
    config = training_file(tmp_path, write_frames(tmp_path / "frames.xyz", content), run_dir=str(folder))
    assert main(["train", str(config), "train_schedule.1.epochs=1"]) == 0
    rows = (folder / "log.csv").read_text().splitlines(keepends=True)
    (folder / "log.csv").write_text("".join([*rows[:3], rows[3][:9]]))  # a row is just being written
    output = tmp_path / "page.html"
    words = ["report", str(folder), "--checkpoint", "stage_0", "--output", str(output), "--max_frames", "1"]
    assert main(words) == 0
    assert f"{output}: " in capsys.readouterr().out
    page = Page(output.read_text(encoding="utf-8"))
    text = " ".join(" ".join(page.text).split())
    assert page.headings == SECTIONS and "2 of 3 epochs · checkpoint stage_0" in text
    assert "errors and charges on the valid set" in text and "Train set, constant charge, 1 of 9 frames" in text


def test_other_files_and_frames(run, tmp_path):
    path = write_frames(tmp_path / "others.xyz", frames()[2:5])
    output = tmp_path / "page.html"
    assert main(["report", str(run), "--files", str(path), "--frames", "2", "--output", str(output)]) == 0
    text = output.read_text(encoding="utf-8")
    assert "errors and charges on the files set" in text and "others.xyz, frame 2" in text
    assert "others.xyz, frame 1" not in text


def test_without_evaluation_no_data_are_read(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    output = tmp_path / "page.html"
    data = run.parent / "frames.xyz"
    data.rename(data.with_suffix(".away"))
    try:
        picture = tmp_path / "own_curve.svg"
        picture.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
        words = ["--no_evaluation", "--figures", str(picture)]
        assert main(["report", str(copy), *words, "--output", str(output)]) == 0
        page = Page(output.read_text(encoding="utf-8"))
        assert page.headings == ["Overview", "Learning curves", "Figures", "Timing", "Data", "Configuration"]
        assert "own curve" in page.images
        assert "3Dmol" not in output.read_text(encoding="utf-8")
    finally:
        data.with_suffix(".away").rename(data)


def test_changed_data_are_noticed(run, report, tmp_path):
    sentence = "The data files have changed since the training"
    assert sentence not in report.read_text(encoding="utf-8")
    data, before = run.parent / "frames.xyz", (run.parent / "frames.xyz").read_text()
    content = frames()
    content[0].info["REF_energy"] += 1.0
    write_frames(data, content)
    try:
        output = tmp_path / "page.html"
        assert main(["report", str(run), "--output", str(output), "--split", "valid"]) == 0
        assert sentence in output.read_text(encoding="utf-8")
    finally:
        data.write_text(before)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--split", "spare"], "--split spare: the run has no such frames; its sets: test, valid, train"),
        (["--frames", "9"], "--frames 9: 3 frames of the test set are evaluated"),
        (["--checkpoint", "stage_7"], "has no checkpoint 'stage_7'"),
        (["--max_frames", "0"], "--max_frames 0: expected at least 1"),
        (["--figures", "curve.pdf"], "--figures curve.pdf: expected a picture that ends with .png or .svg"),
        (["--figures", "curve.png"], "--figures curve.png: no such file"),
        (["--files", "nowhere.xyz"], "data file 'nowhere.xyz' does not exist"),
    ],
)
def test_bad_arguments(run, tmp_path, capsys, words, expected):
    output = tmp_path / "page.html"
    assert main(["report", str(run), "--output", str(output), *words]) == 2
    assert expected in capsys.readouterr().err and not output.exists()


def test_folder_without_run(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert "is no run folder" in capsys.readouterr().err
