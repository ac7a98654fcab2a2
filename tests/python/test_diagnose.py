"""`diagnose`: correct weights are called clean, planted faults are found, damaged files are refused."""

import itertools
import json
import math
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import fastinit
from fastinit import diagnose
from fastinit.guidance import Code, Severity
from fastinit.guidance.diagnose import parts, small
from fastinit.guidance.diagnose.onepass import CHUNK, measure
from fastinit.guidance.diagnose.schemes import FAMILIES, TRUNCATED, matching, schemes, within
from fastinit.guidance.diagnose.sources import tensors_of
from fastinit.guidance.diagnose.sources.elements import decode
from fastinit.theory.distributions import truncated_moments


def loud(diagnosis):
    """What is worse than information, as pairs of code and name."""
    return sorted((f.code, f.tensor) for f in diagnosis.findings if f.severity != "info")


# Correct models, as mappings of arrays in the order of Keras. Each draws with streams of its own.


def dense(init, sizes=(256, 192, 192, 128, 64)):
    made = {}
    for i, shape in enumerate(itertools.pairwise(sizes)):
        made[f"dense_{i}/kernel"] = init(shape, seed=0, stream=f"dense_{i}")
        made[f"dense_{i}/bias"] = np.zeros(shape[1], np.float32)
    return made


def convolutions():
    made = {}
    for i, shape in enumerate([(3, 3, 3, 64), (3, 3, 64, 96), (3, 3, 96, 32), (1, 1, 32, 128)]):
        made[f"conv_{i}/kernel"] = fastinit.he_normal(shape, seed=0, stream=f"conv_{i}")
        made[f"norm_{i}/gamma"] = np.ones(shape[-1], np.float32)
        made[f"norm_{i}/beta"] = np.zeros(shape[-1], np.float32)
        made[f"norm_{i}/moving_mean"] = np.zeros(shape[-1], np.float32)
        made[f"norm_{i}/moving_variance"] = np.ones(shape[-1], np.float32)
    made["top/kernel"] = fastinit.glorot_uniform((128, 10), seed=0, stream="top")
    return made


def gpt2(width=128, layers=4):
    def normal(shape, std, name):
        return fastinit.random_normal(shape, stddev=std, seed=0, stream=name)

    made = {
        "wte.weight": normal((500, width), 0.02, "wte"),
        "wpe.weight": normal((64, width), 0.02, "wpe"),
    }
    for i in range(layers):
        for name, out, std in (
            ("attn.c_attn", 3 * width, 0.02),
            ("attn.c_proj", width, 0.02 / math.sqrt(2 * layers)),
            ("mlp.c_fc", 4 * width, 0.02),
        ):
            made[f"h.{i}.{name}.weight"] = normal((width, out), std, f"{i}{name}")
        made[f"h.{i}.mlp.c_proj.weight"] = normal((4 * width, width), 0.02 / math.sqrt(2 * layers), f"{i}m")
        made[f"h.{i}.ln_1.weight"] = np.ones(width, np.float32)
    return made


def recurrent():
    made = {"embedding/embeddings": fastinit.random_uniform((300, 64), seed=0, stream="embed")}
    for i in range(3):
        made[f"lstm_{i}/lstm_cell/kernel"] = fastinit.glorot_uniform((64, 256), seed=0, stream=f"k{i}")
        made[f"lstm_{i}/lstm_cell/recurrent_kernel"] = fastinit.orthogonal((64, 256), seed=0, stream=f"r{i}")
        bias = np.zeros(256, np.float32)
        bias[64:128] = 1.0
        made[f"lstm_{i}/lstm_cell/bias"] = bias
    made["dense/kernel"] = fastinit.glorot_uniform((64, 20), seed=0, stream="dense")
    return made


MODELS = {
    "he_normal": lambda: dense(fastinit.he_normal),
    "he_uniform": lambda: dense(fastinit.he_uniform),
    "lecun_normal": lambda: dense(fastinit.lecun_normal),
    "glorot_uniform": lambda: dense(fastinit.glorot_uniform),
    "orthogonal": lambda: dense(fastinit.orthogonal),
    "fan_out": lambda: dense(fastinit.VarianceScaling(2.0, "fan_out", "untruncated_normal")),
    "convolutions": convolutions,
    "gpt2": gpt2,
    "recurrent": recurrent,
}


@pytest.fixture(params=MODELS, name="model")
def _model(request):
    return MODELS[request.param]()


def test_correct_models_are_clean(model):
    for layout in (None, "in_out"):
        found = diagnose(model, layout=layout)
        assert loud(found) == []
        assert found.ok


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_correct_models_of_other_dtypes_are_clean(model, dtype):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    assert loud(diagnose({name: array.astype(dtype) for name, array in model.items()}, layout="in_out")) == []


# Each fault changes one tensor, the second kernel of the model.


def spoil(array, how):
    array = array.copy()
    rng = np.random.default_rng(0)
    std = array.std()
    flat = array.reshape(-1, array.shape[-1])
    if how == "zero":
        return np.zeros_like(array)
    if how == "constant":
        return np.full_like(array, 0.1)
    if how == "outputs equal":
        flat[:] = flat[:, :1]
    elif how == "some outputs equal":
        flat[:, 5] = flat[:, 11]
    elif how == "some inputs equal":
        array[..., 7, :] = array[..., 2, :]
    elif how == "some outputs zero":
        flat[:, 3] = 0
    elif how == "nan":
        flat[1, 2] = np.nan
    elif how == "infinite":
        flat[1, 2] = -np.inf
    elif how == "small":
        array *= 1e-3
    elif how == "large":
        array *= 1e3
    elif how == "clipped":
        np.clip(array, -1.5 * std, 1.5 * std, out=array)
    elif how == "zeros among them":
        array[rng.random(array.shape) < 0.02] = 0
    elif how == "few values":
        array[...] = rng.normal(0, std, 700)[rng.integers(0, 700, array.shape)]
    elif how == "offset":
        array[...] = rng.uniform(0, 2 * math.sqrt(3) * std, array.shape)
    return array


FAULTS = {
    "zero": "all_zero",
    "constant": "constant",
    "outputs equal": "identical_units",
    "some outputs equal": "identical_units",
    "some inputs equal": "identical_units",
    "some outputs zero": "zero_units",
    "nan": "nan",
    "infinite": "infinite",
    "small": "too_small",
    "large": "too_large",
    "clipped": "clipped",
    "zeros among them": "spike",
    "few values": "few_values",
    "offset": "mean_not_zero",
}


@pytest.mark.parametrize("layout", [None, "in_out"])
@pytest.mark.parametrize("fault", FAULTS)
def test_planted_fault(model, fault, layout):
    name = [name for name in model if "kernel" in name or "weight" in name][3 if "wte.weight" in model else 1]
    if fault in ("clipped", "few values") and "recurrent" in name:
        name = name.replace("recurrent_", "")
    model[name] = spoil(model[name], fault)
    assert loud(diagnose(model, layout=layout)) == [(FAULTS[fault], name)]


def test_random_signs_are_judged_by_their_size():
    signs = np.sign(np.random.default_rng(0).normal(size=(64, 64))).astype(np.float32)
    found = diagnose({"a/kernel": signs * np.float32(1e30), "b/kernel": signs[::-1] * np.float32(0.11)})
    assert loud(found) == [("too_large", "a/kernel")]


def test_severity():
    model = dense(fastinit.he_normal)
    zero = {f"dense_{i}/kernel": np.zeros((192, 192), np.float32) for i in (1, 2)}
    zero["dense_2/kernel"] = zero["dense_2/kernel"][:, :128].copy()
    assert diagnose(model | zero).worst == "severe"  # Neither ever gets a gradient.
    assert diagnose(model | {"dense_1/kernel": zero["dense_1/kernel"]}).worst == "warning"
    clipped = spoil(model["dense_1/kernel"], "clipped")
    found = diagnose(model | {"dense_1/kernel": clipped})
    assert (found.worst, found.ok) == ("warning", False)


@pytest.mark.parametrize("init", ["he_normal", "he_uniform", "lecun_normal"])
def test_wrong_mode_of_one(init):
    model = dense(getattr(fastinit, init))
    config = {"he_normal": (2.0, "truncated_normal"), "he_uniform": (2.0, "uniform")}
    scale, distribution = config.get(init, (1.0, "truncated_normal"))
    other = fastinit.VarianceScaling(scale, "fan_out", distribution)
    model["dense_2/kernel"] = other((192, 128), seed=1)
    assert loud(diagnose(model, layout="in_out")) == [("wrong_mode", "dense_2/kernel")]
    # In the other order of axes this is fan_in.
    assert loud(diagnose(model)) == []


def test_wrong_mode_of_all_is_a_choice():
    found = diagnose(MODELS["fan_out"](), layout="in_out")
    assert [(f.code, f.severity) for f in found.findings] == [("wrong_mode", "info")]


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_truncation_without_correction(scale):
    init = {1.0: fastinit.lecun_normal, 2.0: fastinit.he_normal}[scale]
    model = dense(init)
    std = math.sqrt(scale / 192)
    model["dense_1/kernel"] = fastinit.truncated_normal((192, 192), stddev=std, seed=3)
    assert loud(diagnose(model)) == [("uncorrected_truncation", "dense_1/kernel")]


@pytest.mark.parametrize("name", ["weight", "embedding", "weight_hh_l0"])
@pytest.mark.parametrize("shape", [(8, 8), (3, 24), (16, 1, 3, 3), (512, 64)], ids=str)
def test_matching_schemes_are_those_within_the_bounds(name, shape):
    ((tensor,), _) = tensors_of({name: np.zeros(shape, np.float32)}, "out_in")
    known = schemes(tensor)
    stds = [scheme.std for scheme in known] + [0.5 * known[0].std, 1e-9, 1e9]
    for std, slack, count in itertools.product(stds, (0.0, 0.01, 0.3, 3.0), (1, 2, 3)):
        for families in itertools.combinations(FAMILIES, count):
            low, high = within(std, slack)
            expected = [x for x in known if low <= x.std <= high and x.family in families]
            found = matching(tensor, families, std, slack)
            assert list(found) == expected
            assert found.names == {scheme.name for scheme in expected}


def test_twins():
    model = dense(fastinit.he_normal)
    model["other/kernel"] = model["dense_1/kernel"].copy()
    assert loud(diagnose(model)) == [("twins", "other/kernel")]
    # The same seed for another shape: the same draws, at another scale.
    model["other/kernel"] = fastinit.he_normal((512, 64), seed=0, stream="dense_1")
    assert loud(diagnose(model)) == [("twins", "other/kernel")]
    # Tied tensors are one.
    model["other/kernel"] = model["dense_1/kernel"]
    found = diagnose(model)
    assert loud(found) == []
    assert found["other/kernel"].names == ("dense_1/kernel", "other/kernel")


def test_nearly_orthogonal():
    model = MODELS["orthogonal"]()
    model["dense_1/kernel"] += np.random.default_rng(0).normal(0, 1e-3, (192, 192)).astype(np.float32)
    assert loud(diagnose(model)) == [("not_orthogonal", "dense_1/kernel")]
    assert diagnose(model)["dense_2/kernel"].scheme == "orthogonal(gain=1)"


def test_normalization_and_bias():
    def spoiled(name, value):
        return loud(diagnose(convolutions() | {name: np.asarray(value, np.float32)}))

    n = 96
    rng = np.random.default_rng(0)
    assert spoiled("norm_1/moving_variance", np.linspace(-0.1, 1, n)) == [
        ("negative_variance", "norm_1/moving_variance")
    ]
    assert spoiled("norm_1/moving_variance", np.zeros(n)) == [
        ("running_statistics", "norm_1/moving_variance")
    ]
    assert spoiled("norm_1/gamma", rng.normal(0, 0.02, n)) == [("scale_not_one", "norm_1/gamma")]
    assert spoiled("norm_1/gamma", np.full(n, 100)) == [("scale_not_one", "norm_1/gamma")]
    assert spoiled("norm_1/gamma", np.zeros(n)) == []
    assert spoiled("norm_1/gamma", rng.normal(1, 0.02, n)) == []
    assert spoiled("norm_1/beta", rng.normal(0, 2, n)) == [("bias_not_zero", "norm_1/beta")]
    assert spoiled("norm_1/beta", rng.normal(0, 0.01, n)) == []


def test_special_tensors_are_no_faults():
    rng = np.random.default_rng(0)
    embedding = rng.normal(size=(100, 32)).astype(np.float32)
    embedding[0] = 0
    position = np.arange(50)[:, None] / 10000 ** (np.arange(32)[None] / 32)
    tensors = {
        "identity": np.eye(40, dtype=np.float32),
        "wide": np.eye(20, 40, dtype=np.float32),
        "conv": fastinit.dirac((3, 3, 8, 16)),
        "delta": fastinit.delta_orthogonal((3, 3, 16, 32), seed=0),
        "sparse": fastinit.sparse((200, 100), 0.9, 0.1, seed=0),
        "embedding/embeddings": embedding,
        "pos_embed": np.sin(position),
        "inv_freq": 1 / 10000 ** (np.arange(32) / 32),
        "mask": np.triu(np.full((10, 10), -np.inf, np.float32), 1),
        "ids": np.arange(10),
        "flags": np.ones(3, bool),
        "empty": np.empty((0, 4), np.float32),
        "logit_scale": np.float32(4.6),
        "lora_A/kernel": fastinit.lecun_uniform((64, 8), seed=0, stream="a"),
        "lora_B/kernel": np.zeros((8, 64), np.float32),
        "layers.0.attn.A_log": np.log(np.broadcast_to(np.arange(1.0, 17), (64, 16))),
    }
    found = diagnose(tensors)
    assert loud(found) == []
    assert found["identity"].scheme == "identity"
    assert found["conv"].scheme == "dirac"
    assert found["sparse"].scheme == "sparse(0.9)"


def test_zero_branches_are_meant_and_single_ones_are_not():
    model = gpt2()
    last = [name for name in model if name.endswith("mlp.c_proj.weight")]
    zero = {name: np.zeros_like(model[name]) for name in last}
    assert {(f.code, f.severity) for f in diagnose(model | zero).findings} == {("all_zero", "info")}
    assert loud(diagnose(model | {last[0]: zero[last[0]]})) == [("all_zero", last[0])]
    everything = {name: np.zeros_like(array) for name, array in model.items()}
    assert diagnose(everything).worst == "severe"


def test_scaling_by_depth_is_meant():
    """As in BEiT: the i-th layer, from 1, is divided by sqrt(2 i)."""
    model = gpt2(layers=16)
    for i in range(16):
        for name in (f"h.{i}.mlp.c_proj.weight", f"h.{i}.attn.c_proj.weight"):
            model[name] *= math.sqrt(2 * 16) / math.sqrt(2 * (i + 1))
    assert loud(diagnose(model)) == []
    model["h.3.mlp.c_proj.weight"] /= 10
    assert loud(diagnose(model)) == [("too_small", "h.3.mlp.c_proj.weight")]


def test_trained_weights_are_recognized():
    rng = np.random.default_rng(0)
    model = {}
    for i in range(4):
        model[f"dense_{i}/kernel"] = (rng.standard_t(4, (128, 128)) * 0.4).astype(np.float32)
        model[f"norm_{i}/gamma"] = rng.uniform(0.0, 3.0, 128).astype(np.float32)
        model[f"dense_{i}/bias"] = rng.normal(0, 3, 128).astype(np.float32)
    found = diagnose(model)
    assert loud(found) == []
    assert "looks_trained" in {f.code for f in found.findings}
    model["dense_2/kernel"][3, 4] = np.nan
    assert loud(diagnose(model)) == [("nan", "dense_2/kernel")]


@pytest.mark.parametrize("shape", [(3, 3), (4, 5), (2, 16), (16, 1), (1, 1), (1, 30)])
def test_small_tensors_say_little(shape):
    for seed in range(50):
        for init in (fastinit.he_normal, fastinit.glorot_uniform, fastinit.lecun_uniform):
            kernels = {f"{i}/kernel": init(shape, seed=seed, stream=i) for i in range(4)}
            assert loud(diagnose(kernels)) == []


@pytest.mark.parametrize("layout", [None, "in_out"])
def test_a_single_element_among_kernels(layout):
    model = dense(fastinit.he_normal) | {"gate/kernel": np.array([[0.3]], np.float32)}
    assert loud(diagnose(model, layout=layout)) == []


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("shape", [(40, 40), (100, 90)])
def test_grids_of_half_types_are_no_spikes(shape, dtype):
    for init in (fastinit.he_uniform, fastinit.random_uniform, fastinit.he_normal):
        model = {f"{i}/kernel": init(shape, seed=i, dtype=dtype) for i in range(80)}
        assert [code for code, _ in loud(diagnose(model)) if code != "vanishing"] == []


@pytest.mark.parametrize(
    ("scale", "code"), [(1e-300, "too_small"), (1e-320, "too_small"), (1e300, "too_large")]
)
def test_what_float64_cannot_square(scale, code):
    rng = np.random.default_rng(0)
    found = diagnose({f"{i}/kernel": rng.normal(size=(64, 64)) * scale for i in range(3)})
    assert [(f.code, f.severity) for f in found.findings] == [(code, "severe")] * 3
    json.dumps(found.to_dict(), allow_nan=False)
    biases = {"0/bias": np.array([scale, -scale]), "1/bias": np.array([10.0, 20.0])}
    assert ("bias_not_zero", "1/bias") in loud(diagnose(biases))


# Structure that looks random


@pytest.mark.parametrize("rank", range(1, 9))
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_low_rank(rank, dtype):
    rng = np.random.default_rng(rank)
    model = dense(fastinit.he_normal, (64, 96, 64, 48, 10))
    product = rng.normal(size=(96, rank)) @ rng.normal(size=(rank, 64)) / math.sqrt(48 * rank)
    model["dense_1/kernel"] = product.astype(fastinit.zeros((1,), dtype=dtype).dtype)
    assert loud(diagnose(model)) == [("low_rank", "dense_1/kernel")]


@pytest.mark.parametrize("shape", [(64, 64), (16, 200), (200, 16), (3, 3, 16, 32), (1, 1, 8, 8)], ids=str)
@pytest.mark.parametrize("several", [False, True])
def test_sequences_are_of_low_rank(shape, several):
    size = math.prod(shape)
    bound = math.sqrt(6 / (size // shape[-1]))
    made = {"sequence": np.linspace(-bound, bound, size, dtype=np.float32).reshape(shape)}
    if several:  # These are measured together.
        made |= {f"drawn.{i}": fastinit.he_uniform(shape, seed=i) for i in range(5)}
    assert loud(diagnose(made, layout="in_out")) == [("low_rank", "sequence")]


@pytest.mark.parametrize(
    "shape", [(4, 4), (5, 7), (8, 8), (16, 16), (9, 300), (3, 3, 4, 4), (2048, 4)], ids=str
)
def test_drawn_kernels_are_not_of_low_rank(shape):
    for seed in range(20):
        model = {f"{i}.kernel": fastinit.lecun_uniform(shape, seed=seed, stream=i) for i in range(5)}
        for init in (fastinit.Orthogonal(), fastinit.Sparse(0.8)):
            if len(shape) == 2:
                model[repr(init)] = init(shape, seed=seed)
        assert "low_rank" not in {f.code for f in diagnose(model).findings}


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("shape", [(64, 64), (24, 40)], ids=str)
def test_negated_and_transposed_twins(shape, several):
    made = {"a.kernel": fastinit.he_normal(shape, seed=0)}
    made |= {f"more.{i}.kernel": fastinit.he_normal(shape, seed=i) for i in range(1, 6 if several else 2)}
    a = made["a.kernel"]
    for copy in (-a, a.T.copy(), -2 * a.T, np.asfortranarray(a.T) * 0.5, a.T.astype(np.float64)):
        found = diagnose(made | {"b.kernel": copy}, layout="in_out")
        assert ("twins", "b.kernel") in loud(found)
        assert len(loud(found)) == 1
    # The same memory is tied, and decoders may start as transposed encoders.
    assert loud(diagnose(made | {"b.kernel": a.T})) == []
    pair = {"encoder.kernel": a, "decoder.kernel": a.T.copy()}
    assert ("twins", "info") in [(f.code, f.severity) for f in diagnose(pair).findings]
    assert loud(diagnose(pair)) == []


def test_many_small_orthogonal_kernels():
    """None of them is left for those that are measured together."""
    model = {f"{i}.kernel": fastinit.orthogonal((48, 48), seed=i) for i in range(6)}
    found = diagnose(model)
    assert found.findings == ()
    assert {row.scheme for row in found.rows} == {"orthogonal(gain=1)"}


# What is rarely seen, and right


@pytest.mark.parametrize("rows", range(1, 6))
@pytest.mark.parametrize("gain", [0.01, 1.0])
@pytest.mark.parametrize("layout", ["out_in", "in_out"])
def test_heads_of_few_orthogonal_units(rows, gain, layout):
    turn = (lambda x: x) if layout == "out_in" else np.transpose
    for seed in range(5):
        head = fastinit.orthogonal((rows, 64), gain=gain, seed=9 + seed)
        bodies = {f"{i}.weight": turn(fastinit.orthogonal((64, 64), 1.4, seed=i)) for i in range(2)}
        found = diagnose(bodies | {"mean.weight": turn(head)}, layout=layout)
        assert loud(found) == []
        if rows > 1 or gain < 1.0:
            assert found["mean.weight"].scheme == f"orthogonal(gain={gain:g})"
    # The same size without the structure is too small, whatever the name.
    assert loud(diagnose({"mean.weight": fastinit.random_normal((5, 64), stddev=0.00125, seed=0)}))


@pytest.mark.parametrize("name", ["", "norm.", "blocks.0.ln_1."])
def test_normalizations_over_several_axes(name):
    ones, zeros = np.ones((4, 32), np.float32), np.zeros((4, 32), np.float32)
    assert loud(diagnose({f"{name}weight": ones, f"{name}bias": zeros})) == []
    if name:
        assert loud(diagnose({f"{name}weight": ones, "fc.weight": fastinit.he_normal((8, 64), seed=0)})) == []
    # A layer of ones has a bias for each unit.
    assert loud(diagnose({f"fc.{name}dense.weight": ones, f"fc.{name}dense.bias": zeros[:, 0]}))


@pytest.mark.parametrize("scale", [10.0, 30.0, 0.01])
def test_normalizations_that_start_far_from_one(scale):
    model = gpt2()
    for name in [name for name in model if "ln_1" in name]:
        model[name] *= np.float32(scale)
    assert {code for code, _ in loud(diagnose(model))} == {"scale_not_one"}


def test_constants_that_are_no_kernels():
    """Names and shapes of models of transformers."""
    made = {f"layers.{i}.attention.gru_rel_pos_const": np.ones((1, 12, 1, 1), np.float32) for i in range(3)}
    made |= {f"layers.{i}.rg_lru.recurrent_gate_bias": np.zeros((8, 16), np.float32) for i in range(3)}
    made |= {f"layers.{i}.codebook.embed": np.zeros((64, 16), np.float32) for i in range(3)}
    made |= {f"layers.{i}.dense.weight": fastinit.lecun_normal((32, 32), seed=i) for i in range(3)}
    assert loud(diagnose(made)) == []


def test_a_vector_that_is_called_scale():
    drawn = {"attention/scale": fastinit.random_uniform((64,), -0.3, 0.3, seed=0)}
    assert diagnose(drawn).findings == ()
    assert loud(diagnose({"norm/scale": drawn["attention/scale"]})) == [("scale_not_one", "norm/scale")]


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2"])
def test_numbers_of_8_bits_are_few(dtype):
    kind = getattr(pytest.importorskip("ml_dtypes"), dtype)
    kernels = {
        f"{i}/kernel": init((200, 200), seed=i).astype(kind)
        for i, init in enumerate([fastinit.he_normal, fastinit.random_uniform, fastinit.glorot_uniform])
    }
    assert diagnose(kernels).findings == ()
    # Also where they are stored with more bits. A sampler of as few values is another thing.
    assert diagnose({name: kernel.astype(np.float32) for name, kernel in kernels.items()}).findings == ()
    few = np.random.default_rng(0).normal(0, 0.1, 200).astype(np.float16)
    sampled = {"0/kernel": few[np.random.default_rng(1).integers(0, 200, (200, 200))]}
    assert {f.code for f in diagnose(sampled).findings} == {"few_values"}


def test_masks_and_random_signs():
    rng = np.random.default_rng(0)
    signs = np.sign(rng.normal(size=(200, 200))).astype(np.float32)
    mask = (rng.random((200, 200)) < 0.5).astype(np.float32)
    kernels = {
        "mask": mask,
        "connections.weight": mask[::-1],
        "signs": signs / 14,
        "three": signs * mask / 10,
    }
    found = diagnose(kernels)
    assert found.findings == ()
    assert found["connections.weight"].scheme == "zeros and ones"
    assert loud(diagnose({"signs": signs})) == [("too_large", "signs")]


@pytest.mark.parametrize("form", ["torch", "keras", "optax"])
def test_what_optimizers_keep_is_not_judged(form):
    gradient = np.random.default_rng(0).standard_t(3, (40, 60)).astype(np.float32) * 1e-4
    first, second = {
        "torch": ("state.0.exp_avg", "state.0.exp_avg_sq"),
        "keras": ("adam/dense_kernel_momentum", "adam/dense_kernel_velocity"),
        "optax": ("opt_state/0/mu/dense/kernel", "opt_state/0/nu/dense/kernel"),
    }[form]
    kernel = fastinit.lecun_normal((40, 60), seed=0)
    assert loud(diagnose({"dense/kernel": kernel, first: gradient, second: gradient**2})) == []


def test_small_trained_kernels_are_recognized():
    """Heavy tails, or random biases that differ from layer to layer."""
    rng = np.random.default_rng(0)
    heavy = {f"{i}.weight": rng.standard_t(3, (32, 24)).astype(np.float32) + 0.5 for i in range(3)}
    assert loud(diagnose(heavy)) == []
    assert "looks_trained" in {f.code for f in diagnose(heavy).findings}
    sizes, moved = (24, 32, 20, 30), {}
    for i, (m, n) in enumerate(itertools.pairwise(sizes)):
        moved[f"{i}.weight"] = rng.normal(0.15, 0.55, (n, m)).astype(np.float32)
        moved[f"{i}.bias"] = rng.normal((0.0, 0.8, -0.5)[i], 0.6, n).astype(np.float32)
    assert loud(diagnose(moved)) == []
    assert "looks_trained" in {f.code for f in diagnose(moved).findings}
    # As `recommend` draws them, they are of one distribution.
    drawn = {}
    for i in range(8):
        drawn[f"{i}.weight"] = fastinit.VarianceScaling(1.93)((32, 32), seed=i)
        drawn[f"{i}.bias"] = fastinit.random_normal((32,), stddev=0.47, seed=i)
    assert "looks_trained" not in {f.code for f in diagnose(drawn).findings}


def test_false_alarms_are_rare():
    """3000 kernels of the size that is hardest; six standard errors allow one in a million."""
    inits = [fastinit.he_normal, fastinit.he_uniform, fastinit.LecunNormal(), fastinit.Orthogonal()]
    inits += [fastinit.VarianceScaling(1.0, "fan_in", "untruncated_normal"), fastinit.GlorotUniform()]
    for seed in range(50):
        kernels = {f"{i}/kernel": inits[i % 6]((24, 40), seed=seed, stream=i) for i in range(60)}
        assert loud(diagnose(kernels, layout="in_out")) == []


# Expectations


def test_expected_distributions():
    model = dense(fastinit.he_normal)
    assert loud(diagnose(model, expect="he_normal")) == []
    assert loud(diagnose(model, expect={"*/kernel": fastinit.HeNormal(), "*/bias": "zeros"})) == []
    wrong = [("not_as_expected", f"dense_{i}/kernel") for i in range(4)]
    assert loud(diagnose(model, expect="glorot_uniform")) == wrong
    assert loud(diagnose(model, expect={"*/kernel": "lecun_normal"})) == wrong
    # The variance is right, and the family is not.
    uniform = fastinit.VarianceScaling(2.0, "fan_in", "uniform")
    assert loud(diagnose(model, expect={"dense_1/*l": uniform})) == wrong[1:2]
    ones = loud(diagnose(model, expect={"dense_1/bias": "ones"}))
    assert ones == [("not_as_expected", "dense_1/bias")]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "init",
    [
        fastinit.HeNormal(),
        fastinit.RandomUniform(),
        fastinit.RandomNormal(5.0, 1.0),
        fastinit.Orthogonal(0.01),
        fastinit.Identity(),
        fastinit.Sparse(0.3),
    ],
    ids=lambda init: type(init).__name__,
)
def test_small_tensors_meet_their_expectation(init, dtype):
    for shape in [(1, 1), (1, 2), (2, 1), (2, 2), (1, 5), (7, 2), (4, 6), (30, 2), (1, 300)]:
        for seed in range(12):
            key = {} if isinstance(init, fastinit.Identity) else {"seed": seed}
            assert loud(diagnose(init(shape, **key, dtype=dtype), expect=init, layout="in_out")) == []


def test_expected_distributions_with_zeros():
    delta, sparse = fastinit.DeltaOrthogonal(), fastinit.Sparse(0.25, 0.1)
    shape = (3, 3, 8, 16)
    for expected, right, wrong in (
        (delta, delta(shape, seed=0), np.zeros(shape, np.float32)),
        (delta, delta(shape, seed=0, dtype="float16"), 2 * delta(shape, seed=0)),
        (delta, delta(shape, seed=1), fastinit.orthogonal(shape, seed=0)),
        (sparse, sparse((40, 50), seed=0), 2 * sparse((40, 50), seed=0)),
    ):
        assert loud(diagnose(right, expect=expected)) == []
        assert loud(diagnose(wrong, expect=expected)) == [("not_as_expected", "array")]


def test_expected_distributions_follow_the_layout():
    kernels = {"a.weight": fastinit.VarianceScaling(2.0, in_axis=1, out_axis=0)((64, 300), seed=0)}
    assert loud(diagnose(kernels, layout="out_in", expect="he_normal")) == []
    assert loud(diagnose(kernels, layout="in_out", expect="he_normal")) == [("not_as_expected", "a.weight")]


@pytest.mark.parametrize(
    ("init", "shape"),
    [
        (fastinit.Orthogonal(), (64, 256)),
        (fastinit.Orthogonal(gain=0.5), (256, 64)),
        (fastinit.Orthogonal(blocks=4), (64, 256)),
        (fastinit.Identity(), (40, 40)),
        (fastinit.Dirac(), (3, 3, 8, 8)),
        (fastinit.Sparse(0.9), (100, 50)),
        (fastinit.TruncatedNormal(0.3, 0.1, lower=-1.0, upper=3.0), (100, 50)),
        (fastinit.RandomUniform(0.0, 1.0), (100, 50)),
        (fastinit.Constant(0.3), (10, 10)),
        (fastinit.RandomNormal(1.0, 0.02), (1000,)),
    ],
    ids=repr,
)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_each_initializer_meets_its_own_expectation(init, shape, dtype):
    made = init(shape, seed=0, dtype=dtype)
    assert loud(diagnose({"w": made}, layout="in_out", expect={"w": init})) == []
    other = fastinit.random_normal(shape, 0.0, 0.3, seed=1)
    assert loud(diagnose({"w": other}, layout="in_out", expect={"w": init})) == [("not_as_expected", "w")]


def test_wrong_arguments():
    model = dense(fastinit.he_normal)
    with pytest.raises(ValueError, match=r"'\*/kernels' of expect fits no tensor, did you mean 'dense_"):
        diagnose(model, expect={"*/kernels": "he_normal"})
    with pytest.raises(ValueError, match="did you mean 'he_normal'"):
        diagnose(model, expect="he_norml")
    with pytest.raises(ValueError, match="does not fit 'dense_0/bias'"):
        diagnose(model, expect={"dense_0/bias": "identity"})
    with pytest.raises(ValueError, match="layout must be one of in_out, out_in"):
        diagnose(model, layout="oi")
    with pytest.raises(TypeError, match="can diagnose an array, a mapping"):
        diagnose(3.5)
    with pytest.raises(TypeError, match="'a' must be an array, got str"):
        diagnose({"a": "b"})
    with pytest.raises(FileNotFoundError, match="there is no file"):
        diagnose("/nowhere/at/all.safetensors")


# The result


def test_result():
    model = dense(fastinit.he_normal)
    model["dense_1/kernel"] = np.zeros((192, 192), np.float32)
    model["dense_2/kernel"] = np.zeros((192, 128), np.float32)
    found = diagnose(model)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["worst"] == "severe"
    text = str(found)
    assert text.index("all_zero") < text.index("dense_0/kernel")
    assert "9 tensors" not in text
    assert "8 tensors" in text
    assert found["dense_0/kernel"].fan_in == 256
    assert found["dense_0/kernel"].scheme == "he_normal"
    with pytest.raises(KeyError):
        found["dense_9/kernel"]


def test_numbers_that_are_not_finite_are_json(tmp_path):
    bad = np.full((8, 8), np.nan, np.float32)
    huge = np.full((8, 8), 1e308)
    huge[0] = -1e308
    path = tmp_path / "x.npz"
    np.savez(path, bad=bad, huge=huge)
    found = diagnose(path)
    json.dumps(found.to_dict(), allow_nan=False)
    assert ("nan", "bad") in loud(found)


# Statistics


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e15])
@pytest.mark.parametrize("offset", [0.0, 3.0, 1e6])
def test_statistics_agree_with_scipy(scale, offset):
    stats = pytest.importorskip("scipy.stats")
    x = (np.random.default_rng(0).gamma(2.0, 1.0, 3 * CHUNK + 17) + offset) * scale
    x = x.astype(np.float64 if offset > 10 else np.float32)
    whole = measure(iter([x]), 0, x.size, 1, units=False, gram=False)
    parts = measure(iter([]), 0, x.size, 1, units=False, gram=False)
    for start in range(0, x.size, CHUNK):
        chunk = x[start : start + CHUNK]
        parts.add(measure(iter([chunk]), start, x.size, 1, units=False, gram=False))
    exact = x.astype(np.float64)
    for found in (whole, parts):
        assert found.moments.count == x.size
        assert math.isclose(found.moments.mean, exact.mean(), rel_tol=1e-6)
        assert math.isclose(found.moments.std, exact.std(), rel_tol=1e-5)
        assert math.isclose(found.moments.kurtosis, stats.kurtosis(exact / scale, fisher=False), rel_tol=1e-3)
        assert (found.low, found.high) == (float(x.min()), float(x.max()))


def test_nothing_cancels():
    x = (1.0 + 1e-6 * np.random.default_rng(0).standard_normal(CHUNK)).astype(np.float32)
    found = measure(iter([x]), 0, x.size, 1, units=False, gram=False)
    assert math.isclose(found.moments.std, x.astype(np.float64).std(), rel_tol=1e-6)


def test_counts():
    x = np.random.default_rng(0).uniform(-1, 1, (300, 40)).astype(np.float32)
    x[3, 5], x[4, 5:8], x[5, 6], x[6, :7], x[7, :2] = np.nan, np.inf, -np.inf, 0.0, 2.0
    found = measure(iter([x[:100].ravel(), x[100:].ravel()]), 0, 300, 40, units=False, gram=False)
    assert (found.nan, found.infinite, found.zeros, found.at_high, found.high) == (1, 4, 7, 2, 2.0)


def test_truncated_moments_agree_with_scipy():
    stats = pytest.importorskip("scipy.stats")
    for lower, upper in [(-2, 2), (-1, 3), (0.5, math.inf), (-math.inf, -1), (6, 7)]:
        exact = stats.truncnorm(lower, upper)
        mean, std, kurtosis = truncated_moments(lower, upper)
        assert math.isclose(mean, exact.mean(), rel_tol=1e-9, abs_tol=1e-12)
        assert math.isclose(std, exact.std(), rel_tol=1e-6)
        assert math.isclose(kurtosis, float(exact.stats("k")) + 3, rel_tol=1e-3)
    assert math.isclose(TRUNCATED.kurtosis, truncated_moments(-2, 2)[2], rel_tol=1e-9)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_all_patterns_of_small_dtypes_are_decoded(dtype):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    raw = np.arange(256**kind.itemsize, dtype=np.uint32).astype(f"u{kind.itemsize}")
    with np.errstate(invalid="ignore"):
        exact = raw.view(kind).astype(np.float32)
    finite = np.isfinite(exact)
    assert np.array_equal(decode(raw, dtype), exact, equal_nan=True)
    assert np.array_equal(decode(raw[finite], dtype).view(np.uint32), exact[finite].view(np.uint32))


@pytest.mark.parametrize("order", ["C", "F", "strided"])
def test_memory_layout_does_not_matter(order):
    x = np.random.default_rng(0).normal(size=(3, 3, 16, 32)).astype(np.float32)
    x[..., 4] = x[..., 9]
    y = {"C": x, "F": np.asfortranarray(x), "strided": np.repeat(x, 2, axis=2)[:, :, ::2]}[order]
    assert diagnose({"w": y}).to_dict() == diagnose({"w": x}).to_dict()


@pytest.mark.parametrize("shape", [(5000, 300), (300, 5000), (4, 70, 90, 110), (90, 80, 5, 5)])
@pytest.mark.parametrize("layout", ["in_out", "out_in"])
def test_equal_units_of_large_tensors(shape, layout, tmp_path):
    x = fastinit.he_normal(shape, seed=0)
    axes = (len(shape) - 1, len(shape) - 2) if layout == "in_out" else (0, 1)
    for axis in axes:
        y = x.copy()
        z = np.moveaxis(y, axis, 0)
        first, *others = (3, 17, 60) if len(z) > 60 else (0, 1, 3)
        for other in others:
            z[other] = z[first]
        np.save(tmp_path / "y.npy", y)
        found = diagnose(tmp_path / "y.npy", layout=layout).findings[0]
        assert found.code == "identical_units"
        assert f"(axis {axis})" in found.message
        assert " = ".join(map(str, (first, *others))) in found.message


# Files


def test_npz_and_npy(tmp_path):
    model = dense(fastinit.he_normal)
    expected = diagnose(model).to_dict()
    for save, name in ((np.savez, "a.npz"), (np.savez_compressed, "b.npz")):
        save(tmp_path / name, **model)
        assert diagnose(tmp_path / name).to_dict() == expected
    kernel = model["dense_0/kernel"]
    for array in (kernel, np.asfortranarray(kernel), kernel.astype(">f4")):
        np.save(tmp_path / "c.npy", array)
        assert diagnose(tmp_path / "c.npy").to_dict() == diagnose(kernel).to_dict()
    (tmp_path / "c.npy").rename(tmp_path / "C.NPY")
    assert diagnose(tmp_path / "C.NPY").to_dict() == diagnose(kernel).to_dict()


@pytest.fixture(name="checkpoint")
def _checkpoint(tmp_path):
    save_file = pytest.importorskip("safetensors.numpy").save_file
    model = {name.replace("/", "."): array for name, array in gpt2().items()}
    model["steps"] = np.arange(3)
    model["half.weight"] = fastinit.he_normal((64, 32), seed=0, dtype="float16")
    save_file(model, tmp_path / "model.safetensors", metadata={"format": "np"})
    return tmp_path / "model.safetensors", model


def test_expect_as_a_configuration_and_without_kernels():
    kernel = {"kernel": fastinit.he_normal((128, 64), seed=0)}
    he, glorot = ({"class_name": name, "config": {}} for name in ("HeNormal", "GlorotNormal"))
    assert diagnose(kernel, expect=he).ok
    assert [one.code for one in diagnose(kernel, expect=glorot).findings] == ["not_as_expected"]
    with pytest.raises(ValueError, match="expect fits no tensor, since none is a kernel"):
        diagnose({"bias": np.zeros(4, np.float32)}, expect="he_normal")


def test_safetensors(checkpoint):
    path, model = checkpoint
    found = diagnose(path)
    by_name = {row["name"]: row for row in diagnose(model, layout="out_in").to_dict()["rows"]}
    assert len(found.rows) == len(model) - 1
    for row in found.to_dict()["rows"]:
        assert {**row, "scheme": 0, "scale_error": 0} == {
            **by_name[row["name"]],
            "scheme": 0,
            "scale_error": 0,
        }
    assert found.ok


def test_shards(tmp_path):
    save_file = pytest.importorskip("safetensors.numpy").save_file
    model = dense(fastinit.he_normal)
    names = sorted(model)
    save_file({name: model[name] for name in names[:3]}, tmp_path / "one.safetensors")
    save_file({name: model[name] for name in names[3:]}, tmp_path / "two.safetensors")
    weight_map = {name: "one.safetensors" if name in names[:3] else "two.safetensors" for name in names}
    index = tmp_path / "model.safetensors.index.json"
    found = diagnose(tmp_path)
    index.write_text(json.dumps({"weight_map": weight_map}))
    assert found == diagnose(index) == diagnose(tmp_path)
    assert {row.name for row in found.rows} == set(names)
    weight_map["x"] = "../three.safetensors"
    index.write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(ValueError, match="not a file beside it"):
        diagnose(index)


def header(path, change):
    """Writes a file again, with its header changed."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    text = json.dumps(change(json.loads(data[8 : 8 + length]))).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


def changed(name, **entry):
    def change(found):
        found[name].update(entry)
        return found

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed("wte.weight", shape=[10**9, 10**9]), "overflow"),
        (changed("wte.weight", shape=[-500, -128]), "expected usize"),
        (changed("wte.weight", shape=[1.5]), "expected usize"),
        (changed("wte.weight", dtype=7), "expected string"),
        (changed("wte.weight", data_offsets=[0]), "invalid length 1"),
        (changed("wte.weight", data_offsets=[8, 4]), "invalid offset"),
        (changed("wte.weight", dtype="X", data_offsets=[0, 10**9]), "unknown variant"),
        (lambda found: {**found, "more": {}}, "missing field `dtype`"),
        (
            lambda found: {k: v for k, v in found.items() if k != "wte.weight"},
            "invalid offset|not fully covered",
        ),
        (lambda _: [1, 2], "invalid type: sequence"),
    ],
)
def test_damaged_headers(checkpoint, change, message):
    path, _ = checkpoint
    header(path, change)
    with pytest.raises(ValueError, match=rf"model\.safetensors is not .*({message})"):
        diagnose(path)


def test_damaged_files(checkpoint, tmp_path):
    path, _ = checkpoint
    data = path.read_bytes()
    for content in (
        b"",
        b"abc",
        data[:100],
        data[:-1],
        data + b"x",
        b"\xff" * 64,
        b"\0" * 64,
        os.urandom(999),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"model\.safetensors is not a safetensors file, or is damaged"):
            diagnose(path)
    path.write_bytes(data.replace(b'"h.1.ln_1.weight"', b'"h.0.ln_1.weight"'))
    with pytest.raises(ValueError, match="invalid offset"):
        diagnose(path)
    np.savez(tmp_path / "a.npz", a=np.ones((100, 100)))
    whole = (tmp_path / "a.npz").read_bytes()
    for content in (b"", whole[:200], whole[:-30], whole[:500] + b"x" * 40 + whole[540:]):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.npz"):
            diagnose(tmp_path / "a.npz")
    np.savez_compressed(tmp_path / "a.npz", a=np.asfortranarray(fastinit.he_normal((100, 100), seed=0)))
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(whole[:5000] + b"x" * 40 + whole[5040:])
    with pytest.raises(ValueError, match=r"a\.npz, 'a', is damaged"):
        diagnose(tmp_path / "a.npz")
    np.save(tmp_path / "b.npy", np.ones((100, 100)))
    whole = (tmp_path / "b.npy").read_bytes()
    for content in (b"", whole[:50], whole[:500], whole[:100] + b")" + whole[101:]):
        (tmp_path / "b.npy").write_bytes(content)
        with pytest.raises(ValueError, match=r"b\.npy"):
            diagnose(tmp_path / "b.npy")
    for content, message in (
        (b"{}", "has no tensors"),
        (b'{"a": {"dtype": "", "shape": [1], "data_offsets": [0, 0]}}', "unknown variant"),
    ):
        path.write_bytes(len(content).to_bytes(8, "little") + content)
        try:
            text = str(diagnose(path))
        except ValueError as error:
            text = str(error)
        assert message in text


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell the largest memory in this way")
def test_memory_is_bounded(tmp_path):
    """A file of 512 MiB, as one tensor, takes at most 150 MiB more than the import."""
    path = tmp_path / "large.safetensors"
    shape = (2**14, 2**13)
    text = json.dumps({"w": {"dtype": "F32", "shape": shape, "data_offsets": [0, 2**29]}}).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for start in range(0, 2**14, 2**11):
            rows = slice(start, start + 2**11)
            file.write(fastinit.he_normal(shape, seed=0, index=rows, in_axis=1, out_axis=0).data)
    program = f"""
        import resource
        import sys
        from fastinit import diagnose
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found = diagnose({str(path)!r})
        assert found.rows[0].scheme == "he_normal", found
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        print(grown // (2**20 if sys.platform == "darwin" else 2**10))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 150


@pytest.mark.timeout(60)  # It takes seconds, and took minutes when each tensor was compared with each.
def test_many_tensors(tmp_path):
    init = fastinit.VarianceScaling(2.0, "fan_out", "untruncated_normal")
    model = {}
    for i in range(4000):
        model[f"layers.{i}.kernel"] = init((8, 24), seed=i)
        model[f"layers.{i}.bias"] = np.full(8, 7.0, np.float32)
    np.savez(tmp_path / "many.npz", **model)
    assert len(diagnose(tmp_path / "many.npz").rows) == 8000


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("shape", [(8, 8), (4, 24), (24, 4), (3, 3, 4, 8), (64, 64), (1, 7), (9,)])
def test_small_tensors_are_measured_together_as_alone(monkeypatch, shape, dtype):
    def planted(i, x):
        x = x.astype(np.float32)
        if i == 1:
            x[0] = x[-1]
        elif i == 2:
            x[..., -1] = 0
        elif i == 3:
            x.flat[5] = np.nan
        elif i == 4:
            x.flat[5] = -np.inf
        elif i == 5:
            x[:] = np.linalg.qr(x)[0] if x.ndim == 2 and x.shape[0] >= x.shape[1] else 0.1
        elif i == 6:
            x *= 1e-12
        elif i == 7:
            x[:] = 0
        elif i == 8:
            x.flat[::2] = 0
        elif i == 9:
            x += 2
        return x.astype(resolved)

    resolved = fastinit.zeros((1,), dtype=dtype).dtype
    model = {
        f"layers.{i}.weight": planted(i, fastinit.lecun_uniform((2, *shape), seed=i)[1]) for i in range(20)
    }
    model["copy.weight"] = model["layers.15.weight"] * resolved.type(2)
    calls = []
    alone = parts.Part.measure
    monkeypatch.setattr(parts.Part, "measure", lambda *given: calls.append(given) or alone(*given))
    together = diagnose(model)
    assert len(calls) <= 10  # only those with faults
    monkeypatch.setattr(small, "SEVERAL", math.inf)
    expected = diagnose(model)
    assert len(calls) > 20
    assert str(together.rows) == str(expected.rows)
    assert together.findings == expected.findings
    twins = len(shape) > 1 and math.prod(shape) >= 8
    assert (Code.TWINS in [finding.code for finding in together.findings]) == twins


def test_progress_reaches_the_whole():
    arrays = {"a": fastinit.he_normal((300, 200), seed=0), "b": np.zeros(0, np.float32), "c": np.ones(7)}
    seen = []
    diagnose(arrays, progress=lambda *state: seen.append(state))
    assert [name for _, _, name in seen] == ["a", "b", "c"]
    assert [done for done, _, _ in seen] == [60000, 60000, 60007]
    assert {total for _, total, _ in seen} == {60007}


def test_each_result_has_plain_values():
    found = diagnose({"a/kernel": np.zeros((8, 8), np.float32)})
    assert found.findings[0].code is Code.ALL_ZERO
    assert found.worst is Severity.SEVERE
    assert f"{found.worst}" == str(found.worst) == "severe"
    plain = found.to_dict()
    assert plain["findings"] == [finding.to_dict() for finding in found.findings]
    assert plain["rows"] == [row.to_dict() for row in found.rows]
    assert type(plain["worst"]) is type(plain["findings"][0]["code"]) is str
    assert plain["rows"][0]["shape"] == [8, 8]


def test_safetensors_of_all_dtypes_are_read_where_they_lie(tmp_path):
    pytest.importorskip("safetensors")
    bits = {"BOOL": 8, "F4": 4, "F8_E5M2": 8, "BF16": 16, "F32": 32, "I64": 64, "F16": 16, "F8_E4M3": 8}
    rng, entries, data = np.random.default_rng(0), {}, b""
    for i, (dtype, size) in enumerate(bits.items()):
        raw = (rng.integers(0, 128, 60 * size // 8) & (1 if dtype == "BOOL" else 0x3B)).astype(np.uint8)
        shape = [6, 10]
        entries[f"{i}"] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + raw.size]}
        data += raw.tobytes()
    text = json.dumps(entries | {"none": {"dtype": "F32", "shape": [0], "data_offsets": [len(data)] * 2}})
    text += " " * (-len(text) % 8)
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text.encode() + data)
    found = diagnose(path, layout="in_out")
    assert set(found.skipped) == {"1"}
    for i, dtype in (
        (2, "float8_e5m2"),
        (3, "bfloat16"),
        (4, "float32"),
        (6, "float16"),
        (7, "float8_e4m3fn"),
    ):
        start, stop = entries[f"{i}"]["data_offsets"]
        kind = {8: np.uint8, 16: np.uint16, 32: np.float32}[bits[entries[f"{i}"]["dtype"]]]
        exact = decode(np.frombuffer(data[start:stop], kind), dtype)
        row = found[f"{i}"]
        assert (row.dtype, row.min, row.max) == (dtype, float(exact.min()), float(exact.max()))
        assert math.isclose(row.mean, exact.astype(np.float64).mean(), rel_tol=1e-5)


def test_a_missing_library_is_named(python, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"")
    python(f"""
        import sys, fastinit
        sys.modules["safetensors"] = None
        try:
            fastinit.diagnose({str(tmp_path / "x.safetensors")!r})
        except ImportError as error:
            assert 'pip install "fastinit-nn[safetensors]"' in str(error), error
        else:
            raise AssertionError
    """)
