"""The exact laws of elements and singular values, against scipy, NumPy and what is made."""

import numpy as np
import pytest
from conftest import plain_id
from scipy import integrate, stats

import fastinit
from fastinit.theory.distributions import (
    element_law,
    marchenko_pastur,
    matrices,
    singular_law,
)

X = np.linspace(-3.0, 3.0, 1201)


def truncated(mean, stddev, lower, upper):
    law = fastinit.TruncatedNormal(mean, stddev, lower=lower, upper=upper)
    return law, stats.truncnorm(lower, upper, loc=mean, scale=stddev)


@pytest.mark.parametrize(
    ("initializer", "law"),
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
def test_densities_are_those_of_scipy(initializer, law):
    # At the ends themselves they may differ.
    x = X[(abs(X - law.support()[0]) > 1e-9) & (abs(X - law.support()[1]) > 1e-9)]
    np.testing.assert_allclose(element_law(initializer, 1).density(x), law.pdf(x), rtol=1e-9, atol=1e-300)
    found = element_law(initializer, (3, 4))
    np.testing.assert_allclose([found.mean, found.std], [law.mean(), law.std()], rtol=2e-6, atol=1e-7)
    np.testing.assert_allclose([found.low, found.high], law.support(), atol=1e-12)


def test_far_tails_of_a_truncated_normal():
    # Where scipy's moments are not to be trusted: an exponential law, to first order.
    law = element_law(fastinit.TruncatedNormal(0.0, 1.0, lower=1000.0, upper=np.inf), 1)
    assert law.mean == pytest.approx(1000.001, abs=1e-8)
    assert law.std == pytest.approx(0.001, rel=1e-4)
    assert law.density(np.array([1000.0]))[0] == pytest.approx(1000.0, rel=1e-4)


@pytest.mark.parametrize("shape", [(2, 2), (3, 2), (4, 7), (50, 500), (5, 3, 10)])
@pytest.mark.parametrize("gain", [1.0, -0.3])
def test_elements_of_orthogonal_matrices(shape, gain):
    longest = max(np.prod(shape[:-1]), shape[-1])
    law = stats.beta((longest - 1) / 2, (longest - 1) / 2, loc=-abs(gain), scale=2 * abs(gain))
    x = X[abs(X) != abs(gain)]
    initializer = fastinit.Orthogonal(gain)
    np.testing.assert_allclose(element_law(initializer, shape).density(x), law.pdf(x), rtol=1e-8, atol=1e-200)
    np.testing.assert_allclose(element_law(initializer, shape).std, law.std(), rtol=1e-12)


def test_densities_and_atoms_add_up_to_one(case):
    initializer, shape = case
    law = element_law(initializer, shape)
    # The root at the ends of an arcsine law is no hindrance in the angle.
    low, high = max(law.low, law.mean - 12 * law.std), min(law.high, law.mean + 12 * law.std)

    def of_angle(t):
        x = (low + high) / 2 + (high - low) / 2 * np.sin(t)
        return float(law.density(np.array(x))) * (high - low) / 2 * np.cos(t)

    area = integrate.quad(of_angle, -np.pi / 2, np.pi / 2, limit=200)[0] if high > low else 0.0
    assert area + sum(share for _, share in law.atoms) == pytest.approx(1.0, abs=1e-7)


# Large enough for a mean and a standard deviation that are near those of the law.
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
    ids=repr,
)
def test_laws_are_those_of_what_is_made(initializer, shape):
    law, made = element_law(initializer, shape), initializer(shape, seed=1, dtype="float64").ravel()
    count = made.size
    is_fixed = law.low == law.high and len(law.atoms) < 3 and not isinstance(initializer, fastinit.Orthogonal)
    error = 1e-12 if is_fixed else 6 / np.sqrt(count)
    assert abs(made.mean() - law.mean) <= error * max(law.std, 1e-3)
    if shape != (1, 1):
        assert abs(made.std() - law.std) <= error * law.std + 1e-15
    seen = np.zeros(count, bool)
    for value, share in law.atoms:
        is_here = made == value
        seen |= is_here
        if shape != (1, 1):
            assert is_here.mean() == pytest.approx(share, abs=1e-12)
    if law.low == law.high:
        assert seen.all()
        assert len(law.atoms) == len({*np.unique(made), *(value for value, _ in law.atoms)})
    else:
        assert made[~seen].min() >= law.low
        assert made[~seen].max() <= law.high


def cdf_of(law, s):
    grid = np.linspace(law.low, law.high, 20001)
    y = law.density(grid)
    return np.interp(s, grid, np.concatenate([[0.0], np.cumsum((y[1:] + y[:-1]) / 2 * np.diff(grid))]))


@pytest.mark.parametrize(
    ("initializer", "shape"),
    [
        (fastinit.HeNormal(), (300, 500)),
        (fastinit.GlorotUniform(), (400, 100)),
        (fastinit.LecunNormal(), (300, 300)),
        (fastinit.Sparse(0.9, 1.0), (400, 400)),
        (fastinit.HeUniform(), (3, 3, 32, 128)),
    ],
    ids=repr,
)
def test_singular_values_follow_marchenko_and_pastur(initializer, shape):
    law = singular_law(initializer, shape)
    made = np.sort(np.linalg.svd(initializer(shape, seed=0).reshape(-1, shape[-1]), compute_uv=False))
    # Singular values repel each other: they are far nearer to their law than independent samples would be.
    steps = np.arange(len(made) + 1) / len(made)
    reached = cdf_of(law, made)
    distance = max(abs(reached - steps[1:]).max(), abs(reached - steps[:-1]).max())
    assert distance < 4 / len(made) + 0.005
    assert law.mean == pytest.approx(made.mean(), rel=0.01)
    assert law.std == pytest.approx(made.std(), rel=0.03)
    assert cdf_of(law, np.array([law.high]))[0] == pytest.approx(1.0, abs=1e-3)


def test_a_square_matrix_has_a_quarter_of_a_circle():
    law = marchenko_pastur(100, 100, 0.3)
    s = np.linspace(0.01, 7.0, 300)
    np.testing.assert_allclose(
        law.density(s), 2 * stats.semicircular(scale=6.0).pdf(s), rtol=1e-9, atol=1e-12
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
    ],
    ids=repr,
)
def test_singular_values_that_are_known(initializer, shape):
    law = singular_law(initializer, shape)
    made = np.linalg.svd(matrices(initializer, initializer(shape, seed=0, dtype="float64")), compute_uv=False)
    assert law.low == law.high
    assert sum(share for _, share in law.atoms) == pytest.approx(1.0)
    for value, share in law.atoms:
        assert np.isclose(made, value, rtol=1e-9, atol=1e-9).mean() == pytest.approx(share)


def test_a_mean_lifts_one_singular_value():
    initializer, shape = fastinit.RandomUniform(0.0, 0.1), (300, 400)
    law = singular_law(initializer, shape)
    made = np.linalg.svd(initializer(shape, seed=0), compute_uv=False)
    ((value, share),) = law.atoms
    assert share == 1 / 300
    assert value == pytest.approx(made[0], rel=0.003)
    assert law.high == pytest.approx(made[1], rel=0.05)
    assert law.mean == pytest.approx(made.mean(), rel=0.01)
    # One that is too small does not.
    assert singular_law(fastinit.RandomUniform(-0.05, 0.051), shape).atoms == ()


def test_what_has_no_density():
    with pytest.raises(ValueError, match="shape of 2 dimensions"):
        element_law(fastinit.Sparse(0.5), (3, 4, 5))
    with pytest.raises(ValueError, match=r"two dimensions or more, none of them 0; the shape is \(5,\)"):
        singular_law(fastinit.RandomNormal(), 5)
    with pytest.raises(ValueError, match="none of them 0"):
        singular_law(fastinit.RandomNormal(), (5, 0))
