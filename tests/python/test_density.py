"""The exact distributions of elements and singular values, against scipy, NumPy and samples."""

import copy
import json
import pickle

import numpy as np
import pytest
import scipy
from conftest import plain_id
from scipy import integrate, stats

import fastinit
from fastinit.guidance.show.singular import matrices, singular_values_of
from fastinit.theory.distributions import KINDS, marchenko_pastur, of_kind

X = np.linspace(-3.0, 3.0, 1201)


def truncated(mean, stddev, lower, upper):
    initializer = fastinit.TruncatedNormal(mean, stddev, lower=lower, upper=upper)
    return initializer, stats.truncnorm(lower, upper, loc=mean, scale=stddev)


@pytest.mark.parametrize(
    ("initializer", "expected"),
    [
        (fastinit.RandomUniform(-1.0, 2.5), stats.uniform(-1.0, 3.5)),
        (fastinit.RandomNormal(0.5, 0.7), stats.norm(0.5, 0.7)),
        truncated(0.0, 1.0, -2.0, 2.0),
        truncated(0.3, 0.5, -0.5, 3.0),
        truncated(-1.0, 1.0, 0.0, np.inf),
        truncated(1.0, 1.0, -np.inf, -0.5),
        truncated(0.0, 1.0, -np.inf, np.inf),
        truncated(-5.0, 1.0, 5.0, np.inf),
        truncated(5.0, 1.0, -7.0, -4.0),
        truncated(0.0, 1.0, 0.5, 0.5001),
    ],
    ids=plain_id,
)
def test_densities_are_those_of_scipy(initializer, expected):
    # At the ends themselves they may differ.
    x = X[(abs(X - expected.support()[0]) > 1e-9) & (abs(X - expected.support()[1]) > 1e-9)]
    np.testing.assert_allclose(initializer.check(1).density(x), expected.pdf(x), rtol=1e-9, atol=1e-300)
    found = initializer.check((3, 4))
    # SciPy 1.15, the last for Python 3.10, loses digits of the variance between close bounds.
    atol = 2e-7 if scipy.__version__.startswith("1.15.") else 1e-7
    np.testing.assert_allclose(
        [found.mean, found.std], [expected.mean(), expected.std()], rtol=2e-6, atol=atol
    )
    np.testing.assert_allclose([found.low, found.high], expected.support(), atol=1e-12)


def test_far_tails_of_a_truncated_normal():
    # Where scipy's moments are not to be trusted: exponential, to first order.
    expected = fastinit.TruncatedNormal(0.0, 1.0, lower=1000.0, upper=np.inf).check(1)
    assert expected.mean == pytest.approx(1000.001, abs=1e-8)
    assert expected.std == pytest.approx(0.001, rel=1e-4)
    assert expected.density(np.array([1000.0]))[0] == pytest.approx(1000.0, rel=1e-4)


@pytest.mark.parametrize("shape", [(2, 2), (3, 2), (4, 7), (50, 500), (5, 3, 10)])
@pytest.mark.parametrize("gain", [1.0, -0.3])
def test_elements_of_orthogonal_matrices(shape, gain):
    longest = max(np.prod(shape[:-1]), shape[-1])
    expected = stats.beta((longest - 1) / 2, (longest - 1) / 2, loc=-abs(gain), scale=2 * abs(gain))
    x = X[abs(X) != abs(gain)]
    initializer = fastinit.Orthogonal(gain)
    np.testing.assert_allclose(initializer.check(shape).density(x), expected.pdf(x), rtol=1e-8, atol=1e-200)
    np.testing.assert_allclose(initializer.check(shape).std, expected.std(), rtol=1e-12)


def sphere(dimension):
    return stats.beta((dimension - 1) / 2, (dimension - 1) / 2, loc=-1.0, scale=2.0)


def symmetric(limit):
    return stats.uniform(-limit, 2 * limit)


# Parts of a tensor: the number of elements, and their distribution.
@pytest.mark.parametrize(
    ("initializer", "shape", "parts"),
    [
        (fastinit.GlorotUniform(blocks=2), (50, 40), [(1, symmetric((6 / 70) ** 0.5))]),
        (
            fastinit.GlorotUniform(blocks=[30, 10]),
            (50, 40),
            [(30, symmetric((6 / 80) ** 0.5)), (10, symmetric(0.1**0.5))],
        ),
        (
            fastinit.LecunNormal(blocks=[5, 15], block_axis=0),
            (20, 30),
            [(size, stats.truncnorm(-2, 2, scale=size**-0.5 / 0.87962566103423978)) for size in (5, 15)],
        ),
        (
            fastinit.VarianceScaling(1.0, "fan_out", "untruncated_normal", blocks=[10, 10, 20]),
            (20, 40),
            [(20, stats.norm(0, 10**-0.5)), (20, stats.norm(0, 20**-0.5))],
        ),
        (fastinit.Orthogonal(blocks=[10, 30]), (20, 40), [(10, sphere(20)), (30, sphere(30))]),
        (fastinit.Orthogonal(blocks=5), (30, 40), [(1, sphere(30))]),
        (fastinit.RandomUniform(1.0, 2.0, blocks=[1, 3]), (20, 4), [(1, stats.uniform(1.0, 1.0))]),
        (fastinit.DeltaOrthogonal(blocks=2), (3, 5, 60), [(1 / 3, sphere(30))]),
        (
            fastinit.Sparse(0.51, 0.2, blocks=[30, 10], block_axis=0),
            (40, 7),
            [(14 / 40, stats.norm(0.0, 0.2)), (4 / 40, stats.norm(0.0, 0.2))],
        ),
    ],
    ids=plain_id,
)
def test_blocks_are_mixtures(initializer, shape, parts):
    found = initializer.check(shape)
    whole = 1.0 if sum(weight for weight, _ in parts) < 1.0 else sum(weight for weight, _ in parts)
    x = np.linspace(-1.3, 2.3, 997)
    x = x[abs(x) > 1e-9]
    density = sum(weight / whole * part.pdf(x) for weight, part in parts)
    np.testing.assert_allclose(found.density(x), density, rtol=1e-7, atol=1e-100)
    mean = sum(weight / whole * part.mean() for weight, part in parts)
    square = sum(weight / whole * (part.var() + part.mean() ** 2) for weight, part in parts)
    np.testing.assert_allclose(
        [found.mean, found.std], [mean, (square - mean**2) ** 0.5], rtol=1e-6, atol=1e-12
    )
    zeros = 1.0 - sum(weight for weight, _ in parts) / whole
    assert sum(share for _, share in found.atoms) == pytest.approx(zeros, abs=1e-12)
    assert found.low == min(part.support()[0] for _, part in parts)
    assert found.high == max(part.support()[1] for _, part in parts)


@pytest.mark.parametrize(
    ("initializer", "shape", "expected"),
    [
        (fastinit.RandomUniform(-1.0, 3.0), 10, stats.uniform(-1.0, 4.0)),
        (fastinit.RandomNormal(1.0, 0.2), 10, stats.norm(1.0, 0.2)),
        (fastinit.TruncatedNormal(1.0, 0.2, -1.0, 2.0), 10, stats.truncnorm(-1.0, 2.0)),
        (fastinit.Orthogonal(2.0), (20, 5), sphere(20)),
        (fastinit.Orthogonal(2.0), (2, 2), sphere(2)),
    ],
    ids=plain_id,
)
def test_kurtosis(initializer, shape, expected):
    assert initializer.check(shape).kurtosis == pytest.approx(float(expected.stats("k")) + 3.0, rel=1e-6)
    assert fastinit.Orthogonal().check((1, 1)).kurtosis == 1.0


def test_kurtosis_of_mixtures():
    assert fastinit.Sparse(0.75, 0.3).check((100, 5)).kurtosis == pytest.approx(12.0)
    identity = np.eye(5, 7)
    assert fastinit.Identity().check((5, 7)).kurtosis == pytest.approx(stats.kurtosis(identity, None) + 3)
    # Of the variances 1 / 10 and 1 / 30, in a part of 1 / 4 and 3 / 4: 3 times the mean square of variances,
    # divided by the square of their mean.
    scaling = fastinit.VarianceScaling(1.0, "fan_out", "untruncated_normal", blocks=[10, 30])
    assert scaling.check((20, 40)).kurtosis == pytest.approx(3 * (0.25 / 100 + 0.75 / 900) / 0.05**2)
    # Blocks of one distribution are not a mixture.
    assert fastinit.HeNormal(blocks=[10, 30]).check((20, 40)).name == "truncated_normal"
    assert fastinit.Sparse(1.0).check((100, 5)).kurtosis is None


def test_every_kind_has_a_name_and_parameters(case):
    initializer, shape = case
    found = initializer.check(shape)
    assert found.name in KINDS
    again = of_kind(found.name, tuple(found.parameters.items()))
    assert (again, again.title) == (found, found.name.replace("_", " "))


def test_distributions_can_be_pickled_and_copied_and_have_a_dict(case):
    initializer, shape = case
    for expected in (initializer.check(shape), marchenko_pastur(20, 30, 0.5, 1.0)):
        for found in (pickle.loads(pickle.dumps(expected)), copy.deepcopy(expected)):
            assert found == expected
            np.testing.assert_array_equal(found.density(X), expected.density(X))
        plain = json.loads(json.dumps(expected.to_dict(), allow_nan=False))
        assert (plain["name"], plain["mean"], plain["std"]) == (expected.name, expected.mean, expected.std)


def test_densities_and_atoms_add_up_to_one(case):
    initializer, shape = case
    expected = initializer.check(shape)
    # The root at the ends of an arcsine distribution is no hindrance in the angle.
    low, high = (
        max(expected.low, expected.mean - 12 * expected.std),
        min(expected.high, expected.mean + 12 * expected.std),
    )

    def of_angle(t):
        x = (low + high) / 2 + (high - low) / 2 * np.sin(t)
        return float(expected.density(np.array(x))) * (high - low) / 2 * np.cos(t)

    area = integrate.quad(of_angle, -np.pi / 2, np.pi / 2, limit=200)[0] if high > low else 0.0
    assert area + sum(share for _, share in expected.atoms) == pytest.approx(1.0, abs=1e-7)


# Large enough for a mean and a standard deviation that are near those of the distribution.
@pytest.mark.parametrize(
    ("initializer", "shape"),
    [
        (fastinit.Zeros(), (30, 50)),
        (fastinit.Ones(), (30, 50)),
        (fastinit.Constant(-0.7), (30, 50)),
        (fastinit.Identity(0.4), (30, 50)),
        (fastinit.Dirac(groups=2), (3, 5, 8, 6)),
        (fastinit.Dirac(groups=3), (3, 2, 18)),
        (fastinit.Sparse(0.81, 0.3), (201, 400)),
        (fastinit.Sparse(1.0, 0.3), (20, 30)),
        (fastinit.DeltaOrthogonal(0.5), (3, 3, 40, 80)),
        (fastinit.Orthogonal(2.0), (100, 300)),
        (fastinit.Orthogonal(blocks=3), (100, 300)),
        (fastinit.Orthogonal(blocks=8, block_axis=0), (80, 9, 30)),
        (fastinit.Orthogonal(), (1, 1)),
        (fastinit.GlorotUniform(), (3, 3, 40, 80)),
        (fastinit.VarianceScaling(2.0, "fan_out", "untruncated_normal"), (200, 300)),
    ],
    ids=plain_id,
)
def test_distributions_are_those_of_samples(initializer, shape):
    expected, made = initializer.check(shape), initializer(shape, seed=1, dtype="float64").ravel()
    count = made.size
    is_fixed = (
        expected.low == expected.high
        and len(expected.atoms) < 3
        and not isinstance(initializer, fastinit.Orthogonal)
    )
    error = 1e-12 if is_fixed else 6 / np.sqrt(count)
    assert abs(made.mean() - expected.mean) <= error * max(expected.std, 1e-3)
    if shape != (1, 1):
        assert abs(made.std() - expected.std) <= error * expected.std + 1e-15
    seen = np.zeros(count, bool)
    for value, share in expected.atoms:
        is_here = made == value
        seen |= is_here
        if shape != (1, 1):
            assert is_here.mean() == pytest.approx(share, abs=1e-12)
    if expected.low == expected.high:
        assert seen.all()
        assert len(expected.atoms) == len({*np.unique(made), *(value for value, _ in expected.atoms)})
    else:
        assert made[~seen].min() >= expected.low
        assert made[~seen].max() <= expected.high


def cdf_of(expected, s):
    grid = np.linspace(expected.low, expected.high, 20001)
    y = expected.density(grid)
    return np.interp(s, grid, np.concatenate([[0.0], np.cumsum((y[1:] + y[:-1]) / 2 * np.diff(grid))]))


@pytest.mark.parametrize(
    ("initializer", "shape"),
    [
        (fastinit.HeNormal(), (300, 500)),
        (fastinit.GlorotUniform(), (400, 100)),
        (fastinit.LecunNormal(), (300, 300)),
        (fastinit.Sparse(0.9, 1.0), (400, 400)),
        (fastinit.HeUniform(), (3, 3, 32, 128)),
        (fastinit.LecunNormal(blocks=[150, 300], block_axis=0), (450, 200)),
    ],
    ids=plain_id,
)
def test_singular_values_follow_marchenko_and_pastur(initializer, shape):
    expected = singular_values_of(initializer, shape)
    parts = matrices(initializer, initializer(shape, seed=0))
    made = np.sort(np.concatenate([np.linalg.svd(part, compute_uv=False) for part in parts]))
    # Singular values repel each other: they are far nearer to their distribution than independent samples
    # would be.
    steps = np.arange(len(made) + 1) / len(made)
    reached = cdf_of(expected, made)
    distance = max(abs(reached - steps[1:]).max(), abs(reached - steps[:-1]).max())
    assert distance < 4 / len(made) + 0.005
    assert expected.mean == pytest.approx(made.mean(), rel=0.01)
    assert expected.std == pytest.approx(made.std(), rel=0.03)
    assert cdf_of(expected, np.array([expected.high]))[0] == pytest.approx(1.0, abs=1e-3)


def test_a_square_matrix_has_a_quarter_of_a_circle():
    expected = marchenko_pastur(100, 100, 0.3)
    s = np.linspace(0.01, 7.0, 300)
    np.testing.assert_allclose(
        expected.density(s), 2 * stats.semicircular(scale=6.0).pdf(s), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize(
    ("initializer", "shape"),
    [
        (fastinit.Orthogonal(-0.5), (40, 60)),
        (fastinit.Orthogonal(blocks=3), (40, 90)),
        (fastinit.Orthogonal(column_axis=0), (16, 3, 3, 4)),
        (fastinit.Orthogonal(2.0, blocks=2, block_axis=0), (20, 7, 5)),
        (fastinit.DeltaOrthogonal(0.5), (3, 3, 10, 20)),
        (fastinit.Identity(-2.0), (20, 30)),
        (fastinit.Dirac(), (3, 3, 10, 20)),
        (fastinit.Dirac(groups=2), (3, 10, 20)),
        (fastinit.Zeros(), (20, 30)),
        (fastinit.Ones(), (20, 30)),
        (fastinit.Constant(-0.3), (3, 20, 30)),
        (fastinit.Sparse(1.0), (20, 30)),
        (fastinit.Orthogonal(blocks=[30, 60]), (40, 90)),
        (fastinit.Identity(3.0, blocks=[30, 60]), (40, 90)),
        (fastinit.DeltaOrthogonal(blocks=[12, 20]), (3, 10, 32)),
    ],
    ids=plain_id,
)
def test_singular_values_that_are_known(initializer, shape):
    expected = singular_values_of(initializer, shape)
    tensor = initializer(shape, seed=0, dtype="float64")
    made = [np.linalg.svd(matrix, compute_uv=False) for matrix in matrices(initializer, tensor)]
    made = np.concatenate(made)
    assert expected.low == expected.high
    assert sum(share for _, share in expected.atoms) == pytest.approx(1.0)
    for value, share in expected.atoms:
        assert np.isclose(made, value, rtol=1e-9, atol=1e-9).mean() == pytest.approx(share)


def test_a_mean_lifts_one_singular_value():
    initializer, shape = fastinit.RandomUniform(0.0, 0.1), (300, 400)
    expected = singular_values_of(initializer, shape)
    made = np.linalg.svd(initializer(shape, seed=0), compute_uv=False)
    ((value, share),) = expected.atoms
    assert share == 1 / 300
    assert value == pytest.approx(made[0], rel=0.003)
    assert expected.high == pytest.approx(made[1], rel=0.05)
    assert expected.mean == pytest.approx(made.mean(), rel=0.01)
    # One that is too small does not.
    assert singular_values_of(fastinit.RandomUniform(-0.05, 0.051), shape).atoms == ()


def test_what_has_no_density():
    with pytest.raises(ValueError, match="shape of 2 dimensions"):
        fastinit.Sparse(0.5).check((3, 4, 5))
    with pytest.raises(ValueError, match=r"two dimensions or more, none of them 0, got the shape \(5,\)"):
        singular_values_of(fastinit.RandomNormal(), 5)
    with pytest.raises(ValueError, match="none of them 0"):
        singular_values_of(fastinit.RandomNormal(), (5, 0))
