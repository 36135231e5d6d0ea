"""Simulated data follow the physics and the statistics that they claim."""

import numpy as np
import pytest

from scanbus.publisher.simulation import Geometry, SimulatedExperiment
from scanbus.publisher.simulation.crystal import _diffracted, find_spots
from scanbus.publisher.simulation.geometry import DEAD, GAP, NOISY
from scanbus.publisher.simulation.scattering import ring_angles

SHAPE = (560, 300)


@pytest.fixture(scope="module")
def experiment() -> SimulatedExperiment:
    return SimulatedExperiment(seed=7, shape=SHAPE)


def test_the_same_seed_gives_the_same_numbers(experiment: SimulatedExperiment) -> None:
    again = SimulatedExperiment(seed=7, shape=SHAPE)
    np.testing.assert_array_equal(again.frame(4), experiment.frame(4))
    np.testing.assert_array_equal(again.spectrum(4), experiment.spectrum(4))
    assert again.counters(4) == experiment.counters(4)


def test_points_can_be_asked_for_in_any_order(experiment: SimulatedExperiment) -> None:
    late = experiment.frame(9)
    experiment.frame(2)
    np.testing.assert_array_equal(experiment.frame(9), late)


def test_other_points_and_other_seeds_give_other_noise(
    experiment: SimulatedExperiment,
) -> None:
    assert (experiment.frame(0) != experiment.frame(1)).any()
    other = SimulatedExperiment(seed=8, shape=SHAPE)
    assert (experiment.frame(0) != other.frame(0)).any()


def test_mean_and_variance_of_pixels_are_those_of_poisson(
    experiment: SimulatedExperiment,
) -> None:
    n_frames = 60
    good = (experiment.mask == 0) & (experiment.expected_spots(0) == 0)
    for k in range(1, n_frames):
        good &= experiment.expected_spots(k) == 0
    frames = np.stack([experiment.frame(k)[good] for k in range(n_frames)])
    mean = experiment.expectation[good]
    assert good.sum() > 10_000

    total, total_mean = frames.sum(), mean.sum() * n_frames
    assert abs(total - total_mean) < 5 * np.sqrt(total_mean)
    # Pearson's chi squared of the pixels that have counts enough: n +- sqrt(2 n).
    rich = mean > 0.5
    counts, wanted = frames[:, rich].sum(axis=0), mean[rich] * n_frames
    chi_squared = ((counts - wanted) ** 2 / wanted).sum()
    assert abs(chi_squared - rich.sum()) < 6 * np.sqrt(2 * rich.sum())
    # Variance over mean is 1; of many pixels and frames it is known well.
    variance = frames[:, rich].var(axis=0, ddof=1).sum() / mean[rich].sum()
    assert variance == pytest.approx(1.0, abs=0.03)


def test_spots_have_the_photons_that_are_expected(
    experiment: SimulatedExperiment,
) -> None:
    points = range(20)
    spots = [experiment.expected_spots(k) for k in points]
    lit = [(image > 1) & (experiment.mask == 0) for image in spots]
    counted = sum(int(experiment.frame(k)[lit[k]].sum()) for k in points)
    wanted = sum((experiment.expectation + spots[k])[lit[k]].sum() for k in points)
    assert wanted > 1000
    assert abs(counted - wanted) < 5 * np.sqrt(wanted)


def test_spots_come_and_go_with_the_angle(experiment: SimulatedExperiment) -> None:
    now, later = experiment.expected_spots(0) > 1, experiment.expected_spots(20) > 1
    assert now.any()
    assert later.any()
    assert (now & later).sum() < 0.2 * now.sum()
    # A turn later the crystal stands as before.
    once_more = SimulatedExperiment(seed=7, shape=SHAPE, start_deg=360.0)
    np.testing.assert_allclose(
        once_more.expected_spots(0), experiment.expected_spots(0), atol=1e-6
    )


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
def test_gaps_and_dead_pixels_hold_the_largest_value(dtype: str) -> None:
    experiment = SimulatedExperiment(1, SHAPE, dtype=dtype)  # type: ignore[arg-type]
    frame = experiment.frame(0)
    unusable = (experiment.mask & (GAP | DEAD)) != 0
    assert frame.dtype == dtype
    assert (frame[unusable] == np.iinfo(dtype).max).all()
    assert (frame[~unusable] < np.iinfo(dtype).max).all()
    assert (experiment.mask[512:550] == GAP).all()
    assert (experiment.mask == DEAD).any()


def test_hot_pixels_count_far_too_much(experiment: SimulatedExperiment) -> None:
    hot = experiment.mask == NOISY
    assert hot.any()
    assert (experiment.frame(0)[hot] > 500).all()


def test_a_bright_spot_stays_below_the_flag() -> None:
    experiment = SimulatedExperiment(1, SHAPE, dtype="uint16", spot_counts=1e9)
    good = experiment.mask == 0
    assert (experiment.frame(0)[good] <= experiment.flag_value - 1).all()
    assert (experiment.frame(0)[good] == experiment.flag_value - 1).any()


def test_rings_are_where_bragg_puts_them() -> None:
    geometry = Geometry(shape=(512, 512), centre=(255.5, 255.5), distance_m=0.06)
    experiment = SimulatedExperiment(2, geometry=geometry, air_counts=0.0)
    angle, mean = geometry.two_theta(), experiment.expectation
    first, second = ring_angles(0.5)[:2]
    halfway = (first[0] + second[0]) / 2
    good = experiment.mask == 0
    on_ring = good & (np.abs(angle - second[0]) < 5e-4)
    between = good & (np.abs(angle - halfway) < 5e-4)
    assert mean[on_ring].mean() > 20 * (mean[between].mean() + 0.01)


def test_reflections_flash_up_on_the_ewald_sphere() -> None:
    vectors = np.random.default_rng(1).normal(scale=0.4, size=(200, 3))
    radius = 2.0
    angle, scattered, which = _diffracted(vectors, radius)
    assert len(which) > 100
    # Elastic: the scattered wave is as long as the incident one, which goes along z.
    np.testing.assert_allclose(np.linalg.norm(scattered, axis=1), radius)
    turned = scattered - [0, 0, radius]
    length = np.linalg.norm(vectors[which], axis=1)
    np.testing.assert_allclose(np.linalg.norm(turned, axis=1), length)
    assert ((angle >= 0) & (angle < 360)).all()


def test_every_spot_hits_the_detector_and_knows_its_angle() -> None:
    spots = find_spots(
        Geometry(shape=SHAPE), np.random.default_rng(1), peak_counts=100.0
    )
    assert len(spots.counts) > 100
    assert ((spots.slow >= 0) & (spots.slow < SHAPE[0])).all()
    assert ((spots.fast >= 0) & (spots.fast < SHAPE[1])).all()
    # At its angle a spot shows all it has; a degree away nothing.
    assert spots.rocking(float(spots.angle_deg[5]))[5] == 1.0
    assert spots.rocking(float(spots.angle_deg[5]) + 1)[5] < 1e-5


def test_a_spectrum_has_its_lines(experiment: SimulatedExperiment) -> None:
    total = np.sum([experiment.spectrum(k) for k in range(20)], axis=0)
    iron, beside = total[630:650].sum(), total[560:580].sum()
    assert len(total) == 4096
    assert iron > 10 * beside


def test_counters_are_described(experiment: SimulatedExperiment) -> None:
    assert list(experiment.counters(3)) == list(experiment.counter_infos)
    assert all(info.units for info in experiment.counter_infos.values())
    i0 = [experiment.counters(k)["i0"] for k in range(100)]
    assert np.std(i0) / np.mean(i0) < 0.01


def test_metadata_name_what_they_are_told_to(experiment: SimulatedExperiment) -> None:
    tree = experiment.metadata("eiger", "xrf")
    detector = tree["instrument"]["eiger"]
    assert detector["distance@units"] == "m"
    assert tree["instrument"]["beam"]["incident_wavelength"] == 0.5
    assert tree["instrument"]["xrf"]["calibration_slope"] == 10.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"shape": (0, 5)},
        {"wavelength_angstrom": 0.0},
        {"distance_m": -1.0},
    ],
)
def test_geometry_refuses_what_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"shape|positive"):
        Geometry(**wrong)  # type: ignore[arg-type]


def test_other_dtypes_are_refused() -> None:
    with pytest.raises(ValueError, match="uint16 or uint32"):
        SimulatedExperiment(dtype="float32")  # type: ignore[arg-type]
