"""The golden values of this stream version, from Python; the Rust tests read the same file."""

import hashlib
from pathlib import Path

import pytest
from conftest import bits

import fastinit

FILE = Path(__file__).parents[1] / "data" / "golden.txt"
SHAPE = (256, 256)
KEY = {"seed": 0x0123456789ABCDEF, "stream": 0xFEDCBA9876543210}
LINES = [line.split() for line in FILE.read_text().splitlines() if not line.startswith("#")]


def test_the_file_is_of_this_version():
    header = FILE.read_text().splitlines()[0]
    assert f"stream version {fastinit.STREAM_VERSION}, " in header
    assert header.endswith(f"seed {KEY['seed']:#x}, stream {KEY['stream']:#x}.")


@pytest.mark.parametrize("line", LINES, ids=lambda line: "-".join(line[:3]))
def test_golden_values(line):
    function, parameters, dtype, first, digest = line
    shape = SHAPE
    if function == "orthogonal":
        shape, parameters = tuple(map(int, parameters.split("x"))), "-"
    parameters = [float(p) for p in parameters.split(",")] if parameters != "-" else []
    array = bits(getattr(fastinit, function)(shape, *parameters, **KEY, dtype=dtype))
    assert [int(x, 16) for x in first.split(",")] == array.ravel()[:8].tolist()
    little_endian = array.astype(array.dtype.newbyteorder("<"))
    assert hashlib.blake2b(little_endian.tobytes(), digest_size=8).hexdigest() == digest


def test_golden_values_are_of_every_function_and_dtype():
    functions = {"random_bits", "random_uniform", "random_normal", "truncated_normal", "sparse", "orthogonal"}
    assert {line[0] for line in LINES} == functions
    assert {line[2] for line in LINES} == {"uint32", "uint64", "float32", "float64", "float16", "bfloat16"}
    assert len({line[4] for line in LINES}) == len(LINES), "two cases have the same values"
