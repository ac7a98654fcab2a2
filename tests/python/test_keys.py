"""Seeds and streams."""

import hashlib

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastinit


def draw(**arguments):
    return fastinit.random_bits(64, **arguments)


def test_a_seed_gives_the_same_values_each_time():
    assert_array_equal(draw(seed=1), draw(seed=1))
    assert_array_equal(draw(seed=2**64 - 1), draw(seed=np.uint64(2**64 - 1)))


def test_other_seeds_and_streams_give_other_values():
    keys = [
        (0, 0),
        (1, 0),
        (2**32, 0),
        (2**63, 0),
        (0, 1),
        (0, 2**32),
        (0, 2**63),
        (0, "w"),
        (0, "b"),
        (1, "w"),
    ]
    draws = {draw(seed=seed, stream=stream).tobytes() for seed, stream in keys}
    assert len(draws) == len(keys)


def test_no_seed_means_fresh_entropy():
    assert not (draw() == draw()).all()
    assert not (draw(seed=None) == draw(seed=None)).all()


def test_a_seed_sequence_gives_its_first_word():
    sequence = np.random.SeedSequence(1234)
    assert_array_equal(draw(seed=sequence), draw(seed=int(sequence.generate_state(1, np.uint64)[0])))
    children = sequence.spawn(2)
    assert not (draw(seed=children[0]) == draw(seed=children[1])).all()


@pytest.mark.parametrize("name", ["", "weight", "layers.0.attn.q_proj.weight", "größe/重み", "a\0b"])
def test_a_name_is_the_stream_of_its_hash(name):
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    assert_array_equal(draw(seed=1, stream=name), draw(seed=1, stream=int.from_bytes(digest, "little")))


def test_the_default_stream_is_zero():
    assert_array_equal(draw(seed=1), draw(seed=1, stream=0))


@pytest.mark.parametrize(
    ("seed", "error"),
    [
        (-1, ValueError),
        (2**64, ValueError),
        (True, TypeError),
        (1.0, TypeError),
        ("1", TypeError),
        ([1], TypeError),
    ],
)
def test_seeds_refused(seed, error):
    with pytest.raises(
        error, match=r"seed must be an int in \[0, 2\*\*64\), a numpy.random.SeedSequence or None, got"
    ):
        draw(seed=seed)
    # Initializers that need no seed refuse a wrong one, too.
    with pytest.raises(error, match="seed must be"):
        fastinit.zeros(3, seed=seed)


@pytest.mark.parametrize(
    ("stream", "error"),
    [
        (-1, ValueError),
        (2**64, ValueError),
        (False, TypeError),
        (1.0, TypeError),
        (None, TypeError),
        (b"w", TypeError),
    ],
)
def test_streams_refused(stream, error):
    with pytest.raises(error, match=r"stream must be an int in \[0, 2\*\*64\) or a str, got"):
        draw(seed=1, stream=stream)


def test_names_that_cannot_be_encoded_are_refused():
    with pytest.raises(ValueError, match="surrogates"):
        draw(stream="\ud800")
