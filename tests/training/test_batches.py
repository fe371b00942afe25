"""What a network sees of its patients: which cells, in which view, wherever the pictures lie.

Shapes: V views, M cells of a batch, S side of the crop.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from lymphtune.cohort import Cohort
from lymphtune.config import Data
from lymphtune.training.batches import (
    FLIPS,
    SUBSAMPLES,
    Bags,
    _oriented_on_device,
    _oriented_one_by_one,
    evaluation_orientations,
    oriented,
    training_orientations,
)
from tests.training.networks import CPU


def orientations(picture_SS3: np.ndarray) -> list[bytes]:
    """Return the eight ways a picture can lie, the four turns of it first, then those of its mirror image."""
    return [np.rot90(side, turns).tobytes() for side in (picture_SS3, picture_SS3[:, ::-1]) for turns in range(4)]


def shown_in_training(cohort: Cohort, data: Data, rows: np.ndarray, passes: int) -> dict[int, set[int]]:
    """Return the orientations in which each cell (its row in the cohort) was seen."""
    low = (cohort.pictures_CSS3.shape[1] - data.crop_px) // 2
    crops = cohort.pictures_CSS3[:, low : low + data.crop_px, low : low + data.crop_px]
    known = {way: (cell, number) for cell, crop in enumerate(crops) for number, way in enumerate(orientations(crop))}
    assert len(known) == 8 * len(crops)
    bags, ways = Bags(cohort, data, CPU), {}
    for seed in range(passes):
        for batch in bags.training(rows, 4, np.random.default_rng(seed)):
            for picture in batch.cells.numpy():
                cell, number = known[picture.tobytes()]
                ways.setdefault(cell, set()).add(number)
    return ways


@pytest.mark.parametrize(
    ("flips", "turns", "expected"),
    [(True, True, set(range(8))), (False, True, {0, 1, 2, 3}), (True, False, {0, 2, 4, 6}), (False, False, {0})],
)
def test_cells_are_flipped_and_turned_in_training(
    noisy_cohort: Cohort, flips: bool, turns: bool, expected: set[int]
) -> None:
    data = Data(crop_px=40, bag_size=None, flips=flips, quarter_turns=turns)
    rows = noisy_cohort.labelled
    before = noisy_cohort.pictures_CSS3.copy()
    ways = shown_in_training(noisy_cohort, data, rows, passes=40)
    starts = noisy_cohort.starts
    cells = {cell for row in rows for cell in range(starts[row], starts[row + 1])}
    assert set(ways) == cells  # no cell of another patient, and all of theirs: bag_size is null
    assert set().union(*ways.values()) == expected
    assert sum(seen == expected for seen in ways.values()) > 0.8 * len(cells)
    np.testing.assert_array_equal(noisy_cohort.pictures_CSS3, before)


def test_an_evaluation_shows_every_cell_as_it_is(noisy_cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lymphtune.training.batches.CELLS_PER_PASS", 8)
    bags = Bags(noisy_cohort, Data(crop_px=40, bag_size=2), CPU)
    rows = np.arange(len(noisy_cohort.patients))[::-1]
    batches = list(bags.evaluation(rows))
    assert 3 < len(batches) < len(rows)
    assert [row for batch in batches for row in batch.rows] == rows.tolist()
    for batch in batches:
        for row, cells in zip(batch.rows, batch.cells.split(batch.counts), strict=True):
            np.testing.assert_array_equal(cells, noisy_cohort.bag(row)[:, 2:42, 2:42])


def test_a_step_draws_so_many_cells_of_so_many_patients(noisy_cohort: Cohort) -> None:
    rows = noisy_cohort.labelled
    full = noisy_cohort.patients["n_cells"].to_numpy()
    bags = Bags(noisy_cohort, Data(crop_px=40, bag_size=3, flips=False, quarter_turns=False), CPU)
    orders, sampled = set(), set()
    for seed in range(20):
        batches = list(bags.training(rows, 5, np.random.default_rng(seed)))
        assert [len(batch.rows) for batch in batches] == [5, 5, 2]
        order = [row for batch in batches for row in batch.rows]
        assert sorted(order) == rows.tolist()
        orders.add(tuple(order))
        for batch in batches:
            chosen = np.asarray(batch.rows)
            np.testing.assert_array_equal(batch.counts, np.minimum(full[chosen], 3))
            np.testing.assert_array_equal(batch.labels_B, noisy_cohort.labels[chosen])
            np.testing.assert_allclose(batch.attributes_BA, noisy_cohort.attributes_PA[chosen], rtol=1e-6)
            for row, cells in zip(batch.rows, batch.cells.split(batch.counts), strict=True):
                whole = [crop.tobytes() for crop in noisy_cohort.bag(row)[:, 2:42, 2:42]]
                these = [whole.index(cell.numpy().tobytes()) for cell in cells]
                assert len(set(these)) == len(these)
                sampled.add((row, *sorted(these)))
    assert len(orders) == 20
    assert len(sampled) > len(rows) * 2  # a bag of four gives different threes


def fixed(cohort: Cohort, size: str = "fixed") -> Bags:
    return Bags(cohort, Data(crop_px=40, bag_size=size, flips=False, quarter_turns=False), CPU)


def subsampled(bags: Bags, rows: np.ndarray, subsample: int) -> list[list[bytes]]:
    """Return the cells that each patient is judged on, as bytes in order of these."""
    return [
        sorted(cell.numpy().tobytes() for cell in cells)
        for batch in bags.evaluation(rows, 0, subsample)
        for cells in batch.cells.split(batch.counts)
    ]


def test_fixed_bags_are_of_one_size_in_training_and_evaluation(noisy_cohort: Cohort) -> None:
    rows, counts = noisy_cohort.labelled, noisy_cohort.patients["n_cells"]
    assert counts.nunique() > 1
    for size, n_cells in (("fixed", counts.min()), ("fixed:2", 2), ("fixed:9", 9)):
        bags = fixed(noisy_cohort, size)
        assert list(bags.subsamples) == list(range(SUBSAMPLES))
        for batches in (bags.training(rows, 4, np.random.default_rng(0)), bags.evaluation(rows, 0, 1)):
            assert {count for batch in batches for count in batch.counts} == {n_cells}
        measured = bags.training(rows, 4, np.random.default_rng(0), 1)  # for batch statistics: fewer at a time
        assert {count for batch in measured for count in batch.counts} == {1}


def test_a_smaller_bag_gives_each_of_its_cells_about_equally_often(noisy_cohort: Cohort) -> None:
    rows, counts = noisy_cohort.labelled, noisy_cohort.patients["n_cells"].to_numpy()
    bags = fixed(noisy_cohort, "fixed:9")
    for cells, row in zip(subsampled(bags, rows, 0), rows, strict=True):
        times = [cells.count(cell) for cell in set(cells)]
        assert len(times) == counts[row] and max(times) - min(times) <= 1
    for subsample in range(SUBSAMPLES):
        assert all(len(set(cells)) == 2 for cells in subsampled(fixed(noisy_cohort, "fixed:2"), rows, subsample))


def test_the_cells_judged_follow_from_the_bag_alone(noisy_cohort: Cohort) -> None:
    rows = noisy_cohort.labelled
    first = [subsampled(fixed(noisy_cohort, "fixed:2"), rows, subsample) for subsample in range(SUBSAMPLES)]
    assert [subsampled(fixed(noisy_cohort, "fixed:2"), rows, subsample) for subsample in range(SUBSAMPLES)] == first
    assert len({str(cells) for cells in first}) > 1  # draws differ
    turned = np.concatenate([np.arange(*noisy_cohort.starts[row : row + 2])[::-1] for row in rows[:3]])
    some = replace(
        noisy_cohort,
        patients=noisy_cohort.patients.iloc[rows[:3]].assign(patient=["a", "b", "c"]),
        pictures_CSS3=noisy_cohort.pictures_CSS3[turned],
        picture_digests=[noisy_cohort.picture_digests[cell] for cell in turned],
    )
    for subsample in range(SUBSAMPLES):  # other ids, fewer patients, cells the other way round
        assert subsampled(fixed(some, "fixed:2"), np.arange(3), subsample) == first[subsample][:3]


def test_attributes_are_age_and_the_logarithm_of_the_count(tiny_cohort: Cohort) -> None:
    given = tiny_cohort.attributes_PA
    np.testing.assert_allclose(given[:, 0], tiny_cohort.patients["age_years"])
    np.testing.assert_allclose(np.exp(given[:, 1]), tiny_cohort.patients["lymphocytes_g_per_l"])


# ---- views


@pytest.fixture
def picture_SS3() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (6, 6, 3), dtype=np.uint8)


def test_there_are_eight_views_and_the_first_is_the_picture(picture_SS3: np.ndarray) -> None:
    found = [oriented(torch.from_numpy(picture_SS3), orientation).numpy() for orientation in range(8)]
    np.testing.assert_array_equal(found[0], picture_SS3)
    assert {one.tobytes() for one in found} == set(orientations(picture_SS3))
    assert len({one.tobytes() for one in found}) == 8
    np.testing.assert_array_equal(found[1], picture_SS3[:, ::-1])
    np.testing.assert_array_equal(found[2], picture_SS3[::-1])
    np.testing.assert_array_equal(found[4], picture_SS3.transpose(1, 0, 2))


def test_many_pictures_are_seen_as_each_of_them(picture_SS3: np.ndarray) -> None:
    two = torch.from_numpy(np.stack([picture_SS3, 255 - picture_SS3]))
    for orientation in range(8):
        assert oriented(two, orientation).equal(torch.stack([oriented(one, orientation) for one in two]))


def test_a_view_is_a_copy(picture_SS3: np.ndarray) -> None:
    given = torch.from_numpy(picture_SS3.copy())
    for orientation in range(8):
        oriented(given, orientation).zero_()
    np.testing.assert_array_equal(given.numpy(), picture_SS3)


def test_views_of_training_are_the_flips_the_turns_or_both(picture_SS3: np.ndarray) -> None:
    def seen(flips: bool, turns: bool) -> list[bytes]:
        orientations = training_orientations(Data(flips=flips, quarter_turns=turns))
        return [oriented(torch.from_numpy(picture_SS3), orientation).numpy().tobytes() for orientation in orientations]

    turned = [np.rot90(picture_SS3, turns).tobytes() for turns in range(4)]
    flipped = [picture_SS3[::down, ::across].tobytes() for down in (1, -1) for across in (1, -1)]
    assert sorted(seen(False, True)) == sorted(turned)
    assert sorted(seen(True, False)) == sorted(flipped)
    assert sorted(seen(True, True)) == sorted(orientations(picture_SS3))
    assert seen(False, False) == [picture_SS3.tobytes()]


def test_an_evaluation_looks_once_or_at_the_four_flips() -> None:
    assert tuple(evaluation_orientations(Data())) == (0,)
    assert (
        tuple(evaluation_orientations(Data(tta=True)))
        == FLIPS
        == tuple(training_orientations(Data(quarter_turns=False)))
    )


# ---- where the pictures lie


def test_drawn_on_the_device_or_on_the_host_pictures_are_the_same(noisy_cohort: Cohort) -> None:
    rng = np.random.default_rng(0)
    pictures_CSS3 = noisy_cohort.pictures_CSS3
    numbers_M, orientation_M = rng.integers(0, len(pictures_CSS3), 64), np.arange(64) % 8
    together = _oriented_on_device(torch.from_numpy(pictures_CSS3), numbers_M, orientation_M)
    assert together.equal(_oriented_one_by_one(pictures_CSS3[numbers_M], orientation_M))


def test_resident_pictures_give_the_same_batches(noisy_cohort: Cohort) -> None:
    data = Data(crop_px=40, bag_size=3, tta=True)
    host, resident = Bags(noisy_cohort, data, CPU), Bags(noisy_cohort, data, CPU)
    resident.resident_CSS3 = torch.from_numpy(np.ascontiguousarray(resident.crops_CSS3))
    rows = noisy_cohort.labelled
    pairs = [
        *zip(*(bags.training(rows, 4, np.random.default_rng(1)) for bags in (host, resident)), strict=True),
        *(
            pair
            for orientation in FLIPS
            for pair in zip(*(b.evaluation(rows, orientation) for b in (host, resident)), strict=True)
        ),
    ]
    assert len(pairs) == 3 + 4
    for one, other in pairs:
        assert one.cells.equal(other.cells) and one.rows == other.rows and one.counts == other.counts
        assert one.labels_B.equal(other.labels_B) and one.attributes_BA.equal(other.attributes_BA)


def test_frozen_features_come_in_the_view_that_was_drawn(noisy_cohort: Cohort) -> None:
    """With the view's number as the feature, and the cell's beside it."""
    cells = len(noisy_cohort.pictures_CSS3)
    features_OCD = {
        orientation: np.column_stack([np.full(cells, orientation), np.arange(cells)]).astype(np.float16)
        for orientation in range(8)
    }
    bags = Bags(noisy_cohort, Data(crop_px=40, bag_size=None), CPU, features_OCD)
    rows = noisy_cohort.labelled
    batches = [batch for seed in range(20) for batch in bags.training(rows, 4, np.random.default_rng(seed))]
    sampled = torch.cat([batch.cells for batch in batches])
    assert set(sampled[:, 0].tolist()) == set(range(8)) and sampled.dtype == torch.float32
    starts = noisy_cohort.starts
    for batch in batches:
        expected = np.concatenate([np.arange(starts[row], starts[row + 1]) for row in batch.rows])
        np.testing.assert_array_equal(batch.cells[:, 1], expected)
    (judged,) = bags.evaluation(rows, 2)
    assert (judged.cells[:, 0] == 2).all()
    own = bags.features_of(rows[:2])
    assert len(own) == sum(high - low for low, high in pairwise(starts.tolist()) if low in starts[rows[:2]])
    assert (own[:, 0] == 0).all()


def test_where_a_gpu_has_no_room_pictures_come_from_the_host(
    noisy_cohort: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, tried = Data(crop_px=40, bag_size=None), []
    host, resident = Bags(noisy_cohort, data, CPU), Bags(noisy_cohort, data, CPU)
    resident.resident_CSS3 = torch.from_numpy(np.ascontiguousarray(resident.crops_CSS3))

    def full(*_: object) -> torch.Tensor:
        tried.append(1)
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr("lymphtune.training.batches._oriented_on_device", full)
    for orientation in FLIPS:
        (one,), (other,) = (bags.evaluation(noisy_cohort.labelled[:2], orientation) for bags in (host, resident))
        assert one.cells.equal(other.cells)
    assert resident.resident_CSS3 is None and len(tried) == 1  # and not again
