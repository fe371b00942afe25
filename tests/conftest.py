"""One tiny cohort of real files for every test, and a cache folder that is not the user's own."""

import csv
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file

from lymphtune.cohort import Cohort, load_cohort
from lymphtune.runs.run import Run
from tests.s3 import Server, started

TINY_LABELS = (0, 1, 1, 0, 1, -1, 0, 1, 0, 1, -1, 0, 1, 0, -1)  # P1 to P15
TINY_DATES = ("3/27/1961", "16-09-1934", "12/1/1939")  # both formats

SMALL_SEARCH = {"trials": 5, "epochs": 4, "grace": 2, "reduction": 4}  # of which some are stopped


@pytest.fixture(scope="session", autouse=True)
def _cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LYMPHTUNE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Single-threaded torch: small networks gain nothing from more, and results repeat."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def _tiny_cohort_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("files") / "tiny")


def write_tiny(folder: Path) -> Path:
    """Write the tiny cohort, the same every time, into a new folder."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    rows = [["", "ID", "LABEL", "GENDER", "DOB", "LYMPH_COUNT"]]
    for position, number in enumerate(generator.permutation(len(TINY_LABELS))):
        patient, label = f"P{number + 1}", TINY_LABELS[number]
        sex = "f" if position == 2 else "FM"[position % 2]
        count = f"{generator.uniform(4, 7) if label == 0 else generator.uniform(5, 40):.2f}"
        rows.append([str(position), patient, str(label), sex, TINY_DATES[position % 3], count])
        bag = folder / ("testset" if label == -1 else "trainset") / patient
        bag.mkdir(parents=True)
        for cell in range(3 + number % 2):
            draw_cell(generator, tumoral=label == 1).save(bag / f"{cell:06d}.jpg", quality=85)
    with (folder / "clinical_annotation.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


def draw_cell(generator: np.random.Generator, tumoral: bool) -> Image.Image:
    """Return a violet blob among pale red ones; a tumoral one is larger."""
    picture = Image.new("RGB", (224, 224), (235, 220, 228))
    pen = ImageDraw.Draw(picture)
    for _ in range(8):
        x, y, radius = generator.uniform((0, 0, 15), (224, 224, 25))
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(225, 165, 175))
    radius = generator.uniform(38, 50) if tumoral else generator.uniform(22, 34)
    violet = tuple(int(level) for level in generator.uniform((90, 50, 140), (130, 90, 180)))
    pen.ellipse((112 - radius, 112 - radius, 112 + radius, 112 + radius), fill=violet)
    return picture


@pytest.fixture
def tiny_cohort_folder(_tiny_cohort_files: Path, tmp_path: Path) -> Path:
    """A copy, free to be changed: 12 labelled patients and 3 to predict, 3 or 4 cells each."""
    return Path(shutil.copytree(_tiny_cohort_files, tmp_path / "tiny"))


@pytest.fixture
def tiny_cohort(_tiny_cohort_files: Path) -> Cohort:
    return load_cohort(_tiny_cohort_files)


@pytest.fixture
def noisy_cohort(tiny_cohort: Cohort) -> Cohort:
    """The tiny cohort with pictures of noise, 44 px: no two of them, turned as you like, are alike."""
    count = len(tiny_cohort.pictures_CSS3)
    pictures = np.random.default_rng(0).integers(0, 256, (count, 44, 44, 3), dtype=np.uint8)
    return replace(tiny_cohort, pictures_CSS3=pictures)


@pytest.fixture
def backbone_weights(tmp_path: Path) -> Path:
    """A folder of one backbone's weights, as --weights takes it."""
    return write_backbone(tmp_path / "backbones" / "test_resnet.safetensors").parent


def write_backbone(path: Path, seed: int = 0) -> Path:
    """Write what stands for pretrained weights of timm's test_resnet."""
    import timm

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = timm.create_model("test_resnet")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One real local Ray for all tests that search; it takes seconds to start."""
    from lymphtune.cluster.runner import ray_cluster

    with ray_cluster(None):
        yield


@pytest.fixture(scope="session")
def searched(_tiny_cohort_files: Path, tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> Run:
    """A finished run of the tiny space on the tiny cohort; not to be changed."""
    import lymphtune

    runs = tmp_path_factory.mktemp("runs")
    return lymphtune.search("tiny", _tiny_cohort_files, runs=runs, name="searched", **SMALL_SEARCH)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Server]:
    """One S3 server on loopback for all tests."""
    with started() as server:
        yield server


@pytest.fixture
def bucket(s3_server: Server) -> str:
    """The name of a new, empty bucket."""
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    s3_server.make(name)
    return name
