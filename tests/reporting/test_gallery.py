"""Cells in the page: their centre, and where the heat lies; whoever names a patient, the page stays a page."""

import base64
import io

import numpy as np
from PIL import Image

from lymphtune.reporting.gallery import SIDE_PX, cell_uri, heat_uri
from lymphtune.reporting.page import page
from lymphtune.reporting.parts import Block, Section
from lymphtune.reporting.sections.patients import ShownCell

HOSTILE = "<script>alert(1)</script>\" onerror='alert(2)'"


def pixels(uri: str) -> np.ndarray:
    head, _, body = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(body)))).astype(int)


def test_the_centre_of_a_cell_is_shown() -> None:
    picture = np.zeros((224, 224, 3), dtype=np.uint8)
    picture[56:168, 56:168] = (200, 40, 90)
    found = pixels(cell_uri(picture))
    assert found.shape == (SIDE_PX, SIDE_PX, 3)
    assert np.abs(found - (200, 40, 90)).max() < 12
    assert pixels(cell_uri(picture[:44, :44])).shape == (44, 44, 3)


def test_heat_is_orange_on_grey_where_the_network_looks() -> None:
    picture, heat = np.full((224, 224, 3), (90, 120, 150), dtype=np.uint8), np.zeros((224, 224))
    heat[56:112] = 1
    found = pixels(heat_uri(picture, heat))
    assert (found[:48, :, 0] - found[:48, :, 2]).min() > 80
    assert np.abs(found[64:] - 120).max() < 12


def test_no_id_is_ever_html() -> None:
    cell = ShownCell("data:,", HOSTILE, "0.5", "data:,", HOSTILE)
    patient = {"title": HOSTILE, "about": HOSTILE, "sides": [{"title": "For tumoral", "cells": [cell]}]}
    block = Block("gallery.html", {"patients": [patient], "caption": "", "side": 112})
    html = page("t", [], [Section("patients", "Patients", HOSTILE, [block])], {}, False)
    assert "<script>alert" not in html and "onerror='" not in html and '" onerror' not in html
    assert html.count("&lt;script&gt;alert(1)") == 5
    assert html.count("<img ") == html.count(' alt="') == 2
