"""Figures as files: whoever meets one alone is told where it comes from."""

from pathlib import Path

from PIL import Image

from lymphtune.reporting.drawing import canvas, in_page, mark_simulated, save_drawing, styled, svg_of
from lymphtune.reporting.parts import Drawing


def example() -> Drawing:
    with styled():
        figure = canvas(2)
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1])
        axes.set_xlabel("epoch")
    return Drawing("curve", "A curve", "", "It rises from 0 to 1.", figure)


def test_a_figure_names_its_cohort_and_is_the_same_twice(tmp_path: Path) -> None:
    drawing = example()
    svg = svg_of(drawing, "smears")
    assert "smears" in svg and "SIMULATED" not in svg and svg == svg_of(example(), "smears")
    save_drawing(tmp_path, drawing, svg, "smears")
    with Image.open(tmp_path / "curve.png") as picture:
        assert picture.info["Source"] == "smears" and round(picture.info["dpi"][0]) == 300


def test_a_simulated_one_says_so_below_its_axes() -> None:
    drawing = example()
    mark_simulated(drawing)
    body = in_page(svg_of(drawing, "made-up (SIMULATED)"), "curve-alt")
    assert "SIMULATED cohort" in body and "<metadata>" not in body
    axes = drawing.figure.axes[0].get_tightbbox()
    (mark,) = drawing.figure.texts
    assert axes is not None and mark.get_window_extent().y1 <= axes.y0
