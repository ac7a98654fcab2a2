"""`diagnose` of many tensors, of files that are damaged on purpose or are none, and interrupted."""

import io
import json
import os
import pickle
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

import fastinit
from fastinit import diagnose
from fastinit._terminal import printable
from fastinit.guidance.diagnose import measure, parts
from fastinit.guidance.diagnose.onepass import split
from fastinit.guidance.diagnose.sources import elements

unix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has none of these")


# Many tensors


def drawn(i, shape=(8, 8)):
    return fastinit.random_normal(shape, stddev=0.3, seed=0, stream=i)


MANY = {
    "kernels": lambda i: {f"layer{i}.kernel": drawn(i)},
    "kernels of one layer": lambda i: {f"k{i}kernel": drawn(i)},
    "kernels that are zero": lambda i: {f"layer{i}.kernel": np.zeros((8, 8), np.float32)},
    "some that are zero": lambda i: {f"layer{i}.kernel": drawn(i) * np.float32(i % 2)},
    "two kinds, one zero": lambda i: {
        f"layer{i}.{k}.kernel": drawn(2 * i + k) * np.float32(k) for k in (0, 1)
    },
    "constant kernels": lambda i: {f"layer{i}.kernel": np.full((8, 8), 0.1, np.float32)},
    "transposed kernels": lambda i: {f"layer{i}.kernel": drawn(i // 2).T.copy() if i % 2 else drawn(i // 2)},
    "symmetric kernels": lambda i: {f"layer{i}.kernel": drawn(0) + drawn(0).T},
    "equal kernels": lambda i: {f"layer{i}.kernel": drawn(0)},
    "biases": lambda i: {f"layer{i}.bias": drawn(i, 8)},
    "kernels and biases of one layer": lambda i: {f"k{i}kernel": drawn(i), f"k{i}bias": drawn(i + 999, 8)},
    "scales": lambda i: {f"layer{i}.scale": drawn(i, 8)},
    "embeddings": lambda i: {f"layer{i}.embedding": drawn(i)},
    "running means": lambda i: {f"layer{i}.running_mean": drawn(i, 8)},
    "skipped": lambda i: {f"layer{i}.kernel": drawn(i).astype(np.complex64)},
}


@pytest.mark.parametrize("kind", MANY)
def test_the_work_is_linear_in_the_number_of_tensors(kind):
    def work(count):
        tensors = {name: array for i in range(count) for name, array in MANY[kind](i).items()}
        diagnose(tensors)  # fills the caches
        events = 0

        def count_one(*_):
            nonlocal events
            events += 1

        sys.setprofile(count_one)
        try:
            str(diagnose(tensors))
        finally:
            sys.setprofile(None)
        return events

    few, more, most = map(work, (100, 200, 300))
    assert most - more <= 1.05 * (more - few)


def test_many_axes():
    axes = 200_000  # Products of every slice of the shape would take hours.
    assert split((1,) * axes, None) == (1, True)
    assert split((2,) * axes + (0,), None) == (axes + 1, False)
    assert split((2, 3, 4, 5), None) == (2, True)
    assert split((2, 3, 4, 5), 1) == (1, True)


@pytest.mark.parametrize("axes", [33, 1001, 3000])
@pytest.mark.parametrize("name", ["l.kernel", "l.scale", "l.embed", "l.bias", "x"])
def test_tensors_of_many_axes(tmp_path, axes, name):
    shape = (2, 3, *(1,) * (axes - 2))
    file = write_npz(
        tmp_path / "w.npz", {name: member(shape, np.arange(6, dtype="<f4").tobytes()), "l.bias2": bias()}
    )
    found = diagnose(file)
    assert found[name].shape == shape
    assert found[name].max == 5.0
    assert f"{axes} axes" in str(found)


@pytest.mark.parametrize(
    "name",
    [
        f"layer{'9' * 5000}.kernel",
        f"{'9' * 5000}.kernel",
        f"layer{'9' * 400}.kernel",
        "a" * 100_000 + "/x.kernel",
        ("a" * 1000 + ".") * 100 + "kernel",
        ":1" * 50_000 + "x",
    ],
    ids=["5000 digits", "only digits", "400 digits", "one part", "many parts", "colons"],
)
def test_long_names(name):
    # The last kernel is compared with what the others follow, divided by its depth.
    tensors = {f"layer{i}.kernel": fastinit.lecun_normal((64, 64), seed=0, stream=i) for i in range(6)}
    found = diagnose({**tensors, name: fastinit.lecun_normal((64, 64), seed=1) / 9})
    assert found[name].shape == (64, 64)


# Files that are none


def bias():
    return member((4,), bytes(16))


def member(shape, data, descr="<f4", *, fortran=False, length=None):
    """An array in NumPy's format, which may lie."""
    header = repr({"descr": descr, "fortran_order": fortran, "shape": shape}).encode()
    length = len(header) if length is None else length
    return b"\x93NUMPY\x02\x00" + length.to_bytes(4, "little") + header + data


def write_npz(path, members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return path


def safetensors_file(path):
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))


SPECIAL = {
    "a FIFO": os.mkfifo if hasattr(os, "mkfifo") else None,
    "a link to a FIFO": lambda path: (os.mkfifo(f"{path}.fifo"), path.symlink_to(f"{path}.fifo")),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to a terminal": lambda path: path.symlink_to("/dev/ptmx"),
    "a socket": lambda path: socket.socket(socket.AF_UNIX).bind(str(path)),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to itself": lambda path: path.symlink_to(path.name),
}


@unix
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("name", ["w.npy", "w.npz", "w.safetensors", "w.safetensors.index.json"])
def test_only_regular_files_are_read(tmp_path, monkeypatch, name, kind):
    monkeypatch.chdir(tmp_path)  # The path of a socket must be short.
    SPECIAL[kind](path := type(tmp_path)(name))
    with pytest.raises((ValueError, OSError), match=r"regular file|no file|symbolic links"):
        diagnose(path)


@unix
@pytest.mark.parametrize("kind", ["a FIFO", "a link to a device", "a link to nothing"])
@pytest.mark.parametrize("has_index", [True, False])
def test_only_regular_shards_are_read(tmp_path, kind, has_index):
    SPECIAL[kind](tmp_path / "b.safetensors")
    safetensors_file(tmp_path / "a.safetensors")
    if has_index:
        index = {"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    pytest.importorskip("safetensors")
    with pytest.raises((ValueError, OSError), match=r"b\.safetensors"):
        diagnose(tmp_path)


@unix
def test_a_link_to_a_regular_file_is_read(tmp_path):
    np.save(tmp_path / "w.npy", drawn(0))
    (tmp_path / "link.npy").symlink_to("w.npy")
    assert diagnose(tmp_path / "link.npy")["array"].shape == (8, 8)


ZEROS = bytes(2**24)
BOMBS = {
    "header": (member((2,), ZEROS, length=2**24), "header has 16,777,216 bytes"),
    "short": (member((2, 2), b""), "ends before"),
    "far too short": (member((2**40, 2**20), ZEROS), "ends before"),
    "far too short, in Fortran order": (member((2**40, 2**20), ZEROS, fortran=True), "ends before"),
    "negative": (member((-2, -2), ZEROS), "ends before"),
    "one is negative": (member((-2, 4), ZEROS), "ends before"),
    "huge and empty": (member((2**63, 2**63, 0), b""), None),
    "long": (member((2, 2), ZEROS), None),
    "long, in Fortran order": (member((2, 2), ZEROS, fortran=True), None),
    "long and large": (member((2048, 2), ZEROS), None),
    "not a tuple": (member(5, ZEROS), "damaged"),
    "objects": (member((2,), ZEROS, "|O"), "skipped"),
    "records": (member((2,), ZEROS, [("a", "<f4")]), "skipped"),
}


@pytest.mark.parametrize("kind", BOMBS)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_no_more_is_inflated_than_the_shape_says(tmp_path, suffix, kind):
    data, message = BOMBS[kind]
    file = tmp_path / f"w{suffix}"
    if suffix == ".npz":
        write_npz(file, {"array": data})
        assert file.stat().st_size < 2**16
    else:
        file.write_bytes(data)
    tracemalloc.start()
    try:
        if message is None:
            diagnose(file)
        elif message == "skipped":
            assert diagnose(file).skipped
        else:
            with pytest.raises(ValueError, match=message) as caught:
                diagnose(file)
            assert str(file) in str(caught.value)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_a_size_that_cannot_be_true(tmp_path):
    # The archive says that the member has 2**60 bytes; no file of this size inflates to that.
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w.npy", member((2**20, 2**37), bytes(100), fortran=True))
        archive.infolist()[0].file_size = 2**60
    (tmp_path / "w.npz").write_bytes(data.getvalue())
    with pytest.raises(ValueError, match="ends before its data"):
        diagnose(tmp_path / "w.npz")


def test_sizes_that_are_no_numbers(tmp_path):
    (tmp_path / "w.npy").write_bytes(member((True, 4), bytes(16)))
    assert diagnose(tmp_path / "w.npy")["array"].shape == (1, 4)


@pytest.mark.parametrize("name", ["ZIP_BZIP2", "ZIP_LZMA"])
def test_compressions_without_a_bound(tmp_path, name):
    pytest.importorskip({"ZIP_BZIP2": "bz2", "ZIP_LZMA": "lzma"}[name])
    file = write_npz(tmp_path / "w.npz", {"a": member((2**22,), ZEROS)}, getattr(zipfile, name))
    with pytest.raises(ValueError, match="compressed in another way"):
        diagnose(file)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("size", [4, 2**12])
def test_damaged_archives(tmp_path, size):
    array = member((size,), fastinit.random_normal(size, seed=0).tobytes())
    file = write_npz(tmp_path / "w.npz", {"a": array}, zipfile.ZIP_STORED)
    with zipfile.ZipFile(file, "a", allowZip64=True) as archive:
        archive.writestr("a.npy", array)
    with pytest.raises(ValueError, match="'a' is in it twice"):
        diagnose(file)
    good = write_npz(tmp_path / "w.npz", {"a": array}, zipfile.ZIP_STORED).read_bytes()
    assert diagnose(file)["a"].shape == (size,)
    at = good.index(array) + len(array) - 3
    file.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
    with pytest.raises(ValueError, match="CRC"):
        diagnose(file)
    for length in range(0, len(good), max(1, len(good) // 50)):
        file.write_bytes(good[:length])
        with pytest.raises(ValueError, match=r"w\.npz"):
            diagnose(file)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", [".npz", ".npy", ".safetensors", ".h5", ".gguf", ".onnx", ".pt"])
def test_any_change_of_a_file_is_an_error_or_none(tmp_path, suffix):
    file = tmp_path / f"w{suffix}"
    if suffix == ".npz":
        np.savez_compressed(file, a=drawn(0), b=np.asfortranarray(drawn(1)), c=np.zeros(3, np.float16))
    elif suffix == ".npy":
        np.save(file, drawn(0))
    elif suffix == ".h5":
        dense_file(file)
    elif suffix == ".gguf":
        gguf_file(file, {"a.weight": (0, (8, 8), drawn(0).tobytes())})
    elif suffix == ".onnx":
        onnx_file(file)
    elif suffix == ".pt":
        pytest.importorskip("torch").save(as_torch({"a.weight": drawn(0)}), file)
    else:
        pytest.importorskip("safetensors")
        safetensors_file(file)
    good = file.read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for at in random.integers(0, len(good), 300 if suffix in (".npz", ".npy", ".safetensors") else 100):
        bad = bytearray(good)
        bad[at] ^= 1 << random.integers(8)
        file.write_bytes(bad)
        try:
            diagnose(file)
        except ValueError as error:
            refused += 1
            assert file.name in str(error)  # noqa: PT017
    assert refused


# Files of frameworks


WEIGHTS = {
    "0.weight": fastinit.he_normal((48, 32), seed=0, stream="0", in_axis=1, out_axis=0),
    "0.bias": np.zeros(48, np.float32),
    "1.weight": np.ones(48, np.float32),
    "1.running_var": np.ones(48, np.float32),
    "2.weight": fastinit.he_normal((8, 48), seed=0, stream="2", in_axis=1, out_axis=0),
}
OPTIMIZER = {"state": {0: {"exp_avg": np.zeros((48, 32))}}, "param_groups": [{"lr": 0.1}]}


def as_torch(x):
    """The same with tensors of PyTorch."""
    torch = pytest.importorskip("torch")
    if isinstance(x, np.ndarray):
        return torch.from_numpy(x.copy())
    if isinstance(x, dict):
        return {name: as_torch(value) for name, value in x.items()}
    return [as_torch(value) for value in x] if isinstance(x, list) else x


def prefixed(prefix):
    return {prefix + name: value for name, value in WEIGHTS.items()}


# The checkpoint, where its weights are, the prefix that is left out, and what is skipped.
CHECKPOINTS = {
    "plain": (WEIGHTS, None, None, set()),
    "with other things": ({**WEIGHTS, "epoch": 3, "names": ["a"], "best": None}, None, None, {"names"}),
    "DistributedDataParallel": (prefixed("module."), None, "module.", set()),
    "compiled": (prefixed("_orig_mod.module."), None, "_orig_mod.module.", set()),
    "a part called model": (prefixed("model."), None, None, set()),
    "tutorial": (
        {"epoch": 3, "model_state_dict": WEIGHTS, "optimizer_state_dict": OPTIMIZER, "loss": 0.5},
        "model_state_dict",
        None,
        {"optimizer_state_dict"},
    ),
    "Lightning": (
        {
            "state_dict": prefixed("model."),
            "optimizer_states": [OPTIMIZER],
            "lr_schedulers": [{"last_epoch": 2}],
            "pytorch-lightning_version": "2.5",
        },
        "state_dict",
        "model.",
        {"optimizer_states", "lr_schedulers"},
    ),
    "timm": (
        {"state_dict": WEIGHTS, "state_dict_ema": WEIGHTS, "optimizer": OPTIMIZER, "arch": "x"},
        "state_dict",
        None,
        {"state_dict_ema", "optimizer"},
    ),
    "DeepSpeed": ({"module": WEIGHTS, "optimizer": None, "dp_world_size": 8}, "module", None, {"optimizer"}),
    "BasicSR": ({"params": WEIGHTS}, "params", None, set()),
    "inside each other": ({"model": {"state_dict": WEIGHTS, "epoch": 1}}, "model.state_dict", None, set()),
}


@pytest.mark.parametrize("is_file", [True, False], ids=["file", "mapping"])
@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_checkpoints_are_unwrapped(tmp_path, kind, is_file):
    torch = pytest.importorskip("torch")
    made, place, prefix, skipped = CHECKPOINTS[kind]
    x = as_torch(made)
    if is_file:
        x = tmp_path / "w.pt"
        torch.save(as_torch(made), x)
    elif place is None:
        pytest.skip("names in a mapping stay as they are")
    found = diagnose(x)
    names = set(prefixed("model.")) if kind == "a part called model" else set(WEIGHTS)
    assert {row.name for row in found.rows} == names
    assert found[next(iter(names & {"0.weight", "model.0.weight"}))].scheme == "he_normal"
    assert set(found.skipped) == skipped
    notes = " ".join(found.notes)
    assert (place is None) == ("checkpoint" not in notes)
    assert place is None or f"those in {place!r}" in notes
    assert (prefix is None) == ("prefix" not in notes)
    assert prefix is None or f"the prefix {prefix!r}" in notes
    assert all(note in str(found) for note in found.notes)


def test_mappings_that_are_no_checkpoints_stay_as_they_are():
    flax = {"params": {"Dense_0": {"kernel": drawn(0)}}, "batch_stats": {"bn": {"mean": np.zeros(8)}}}
    assert {row.name for row in diagnose(flax).rows} == {"params/Dense_0/kernel", "batch_stats/bn/mean"}
    assert diagnose({"params": flax["params"]}).rows[0].name == "params/Dense_0/kernel"
    two = {"generator": {"k": drawn(0)}, "discriminator": {"k": drawn(1)}}
    assert {row.name for row in diagnose(two).rows} == {"generator/k", "discriminator/k"}
    found = diagnose({**two, "optimizer": {"a": drawn(2)}, "step": 7})
    assert {row.name for row in found.rows} == {"generator/k", "discriminator/k"}
    assert set(found.skipped) == {"optimizer"}
    with pytest.raises(TypeError, match="'step' must be an array, got int"):
        diagnose({"k": drawn(0), "step": 7})
    # The moments of an optimizer are not taken for a model that has a part of that name.
    assert diagnose({"optim": drawn(0)}).rows[0].name == "optim"


class Executes:
    def __reduce__(self):
        return (open, ("executed", "w"))


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt"])
def test_no_pickle_is_executed(tmp_path, monkeypatch, suffix):
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    file = tmp_path / f"w{suffix}"
    torch.save({"a": Executes()}, file)
    with pytest.raises(ValueError, match=r"an object of io\.open is in it, and is not loaded") as caught:
        diagnose(file)
    assert str(file) in str(caught.value)
    file.write_bytes(pickle.dumps({"a": Executes()}))
    with pytest.raises(ValueError, match="is not loaded"):
        diagnose(file)
    assert os.listdir(tmp_path) == [file.name]  # noqa: PTH208


def test_other_files_of_pytorch(tmp_path):
    torch = pytest.importorskip("torch")
    file = tmp_path / "w.pt"
    torch.save(as_torch(WEIGHTS), file, _use_new_zipfile_serialization=False)
    assert diagnose(file)["2.weight"].shape == (8, 48)
    torch.save(torch.ones(3, 4).bfloat16(), file)
    assert diagnose(file)["tensor"].dtype == "bfloat16"
    torch.save({"a": torch.zeros(1).expand(10**6, 10**6)}, file)
    with pytest.raises(ValueError, match="has 4 bytes"):
        diagnose(file)
    torch.save([torch.ones(3)], file)
    with pytest.raises(ValueError, match="of type list, and not a state dict"):
        diagnose(file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(torch.nn.Linear(3, 4)), file)
    with pytest.raises(ValueError, match="it is TorchScript"):
        diagnose(file)


def in_each_other(depth, inner):
    return {"x": in_each_other(depth - 1, inner)} if depth else inner


def at_many_places(depth, inner):
    for _ in range(depth):
        inner = {"x": inner, "y": inner, "n": 1}
    return inner


def with_itself(inner, key):
    inner[key] = inner
    return inner


NESTED = {
    "itself": lambda x: with_itself({"w": x}, "again"),
    "itself as the weights": lambda x: with_itself({"w": x}, "state_dict"),
    "itself, inside": lambda x: {"w": x, "inner": with_itself({"v": x}, "again")},
    "itself, without a tensor": lambda x: {"w": x, "inner": with_itself({}, "again")},
    "itself, twice": lambda x: with_itself(with_itself({"w": x}, "a"), "b"),
    "many in each other": lambda x: {"v": x, "deep": in_each_other(300, {"w": x})},
    "many in each other, as the weights": lambda x: {"model": in_each_other(300, {"w": x})},
    "one at many places": lambda x: at_many_places(60, {"w": x}),
    "one without a tensor at many places": lambda x: {"w": x, "v": at_many_places(60, {})},
    "a large one at many places": lambda x: {
        str(i): one for one in [dict.fromkeys(range(999), x)] for i in range(999)
    },
}


@pytest.mark.parametrize("is_file", [True, False], ids=["file", "mapping"])
@pytest.mark.parametrize("kind", NESTED)
def test_mappings_that_never_end(tmp_path, kind, is_file):
    torch = pytest.importorskip("torch")
    given = NESTED[kind](torch.ones(3, 4))
    what = "the mapping"
    if is_file:
        what = tmp_path / "w.pt"
        torch.save(given, what)
        given = what
    with pytest.raises(ValueError, match=rf"^{re.escape(str(what))} has .*mapping"):
        diagnose(given)


def test_mappings_that_are_nested_or_shared(tmp_path):
    torch = pytest.importorskip("torch")
    shared = {"w": torch.randn(8, 8, generator=torch.Generator().manual_seed(0))}
    given = {"a": in_each_other(50, shared), "b": shared, "list": [shared]}
    given["list"].append(given["list"])
    torch.save(given, tmp_path / "w.pt")
    for x in (tmp_path / "w.pt", {"a": given["a"], "b": shared}):
        (row,) = diagnose(x).rows
        assert row.names == (f"a/{'x/' * 50}w", "b/w")


def test_other_things_between_the_tensors_of_a_file(tmp_path):
    torch = pytest.importorskip("torch")
    inner = {"w": torch.ones(3, 4), "n": 3, "none": None, "rate": 0.5, "inner": {"beta": 0.9}, "pair": (1, 2)}
    torch.save({"a": inner, "b": {"c": inner}, "rate": 0.5}, tmp_path / "w.pt")
    found = diagnose(tmp_path / "w.pt")
    assert found.rows[0].names == ("a/w", "b/c/w")
    assert found.skipped["a/rate"] == "it is of type float, and not a tensor"
    assert set(found.skipped) == {"a/rate", "a/pair", "b/c/rate", "b/c/pair", "rate"}


def test_a_file_that_is_not_of_pytorch_is_not_called_a_pickle(tmp_path):
    pytest.importorskip("torch")
    for raw in (bytes(500), b"\x40" + bytes(7) + b'{"w":{}}', b"text"):
        (tmp_path / "w.bin").write_bytes(raw)
        with pytest.raises(ValueError, match=r"w\.bin is damaged or of another format: (?!a pickle)"):
            diagnose(tmp_path / "w.bin")


def dense_file(path, name="layers/dense", **attributes):
    """The weights of a dense layer and a batch normalization, as Keras writes them."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file.attrs.update(attributes)
        group = file.create_group(f"{name}/vars")
        group.attrs["name"] = "hidden"
        group["0"], group["1"] = fastinit.he_normal((32, 48), seed=0), np.zeros(48, np.float32)
        group = file.create_group(f"{name}_batch_normalization_3/vars")
        for number in range(4):
            group[str(number)] = np.full(48, float(number in (0, 3)), np.float32)
        file["optimizer/vars/0"] = np.ones((32, 48), np.float32)
    return path


def test_keras_weights(tmp_path):
    found = diagnose(dense_file(tmp_path / "w.weights.h5"))
    roles = {row.name: row.role for row in found.rows}
    norm = "dense_batch_normalization_3"
    assert roles == {
        "hidden/kernel": "kernel",
        "hidden/bias": "bias",
        f"{norm}/gamma": "scale",
        f"{norm}/beta": "bias",
        f"{norm}/moving_mean": "running_mean",
        f"{norm}/moving_variance": "running_var",
    }
    assert found["hidden/kernel"].scheme == "he_normal"
    assert found["hidden/kernel"].fan_in == 32
    assert found.skipped == {"optimizer": "it is the state of an optimizer"}
    assert not found.findings


@pytest.mark.parametrize(("suffix", "dtype"), [(".h5", "float32"), (".hdf5", ">f4")])
def test_chunks_of_hdf5_are_read_in_little_memory(tmp_path, suffix, dtype):
    h5py = pytest.importorskip("h5py")
    kernel = fastinit.he_normal((2**10, 2**11), seed=0).astype(dtype)
    arrays = {
        "kernel": kernel,
        "odd": fastinit.he_normal((301, 7, 5), seed=1),
        "empty": np.zeros((0, 4), "f4"),
    }
    chunks = {"kernel": (48, 500), "odd": (100, 3, 2), "empty": (1, 4)}
    file = tmp_path / f"w{suffix}"
    with h5py.File(file, "w") as opened:
        for name, array in arrays.items():
            extra = (
                {"maxshape": (None, 4)} if name == "empty" else {"compression": "gzip", "compression_opts": 1}
            )
            opened.create_dataset(name, data=array, chunks=chunks[name], **extra)
    tracemalloc.start()
    found = diagnose(file)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 6 * 2**20
    expected = diagnose({f"model/{name}": array for name, array in arrays.items()})
    for row in expected.rows:
        one = found[row.name]
        assert (one.shape, one.min, one.max) == (row.shape, row.min, row.max)
        assert row.std is None or one.std == pytest.approx(row.std, rel=1e-6)


HIDDEN = {
    "an external link": lambda h5py, file: file.__setitem__("x", h5py.ExternalLink("secret.h5", "/k")),
    "a soft link": lambda h5py, file: file.__setitem__("x", h5py.SoftLink("/layers")),
    "external data": lambda _, file: file.create_dataset("x", (4,), "f4", external=[("secret", 0, 16)]),
    "no data": lambda _, file: file.create_dataset("x", (2**20, 2**20), "f4", chunks=(64, 64)),
    "no contiguous data": lambda _, file: file.create_dataset("x", (2**20, 2**20), "f4"),
    "a virtual dataset": lambda h5py, file: file.create_virtual_dataset("x", h5py.VirtualLayout((4,), "f4")),
}


@pytest.mark.parametrize("kind", HIDDEN)
def test_nothing_outside_a_file_of_keras_is_opened(tmp_path, kind):
    h5py = pytest.importorskip("h5py")
    (tmp_path / "secret").write_bytes(bytes(16))
    file = dense_file(tmp_path / "w.h5")
    with h5py.File(file, "a") as opened:
        HIDDEN[kind](h5py, opened)
    with pytest.raises(ValueError, match=r"another place|fewer elements") as caught:
        diagnose(file)
    assert str(file) in str(caught.value)


def test_other_files_in_hdf5(tmp_path):
    h5py = pytest.importorskip("h5py")
    file = dense_file(tmp_path / "w.h5")
    kernel = fastinit.he_normal((320, 480), seed=0)
    with h5py.File(file, "a") as opened:
        opened["circle"] = opened["layers"]
        opened.create_dataset("big", data=kernel.astype(">f4"))
        opened.create_dataset("packed", data=kernel, compression="gzip", chunks=(100, 100))
        opened.create_dataset("half", data=kernel.astype(np.float16))
        opened.create_dataset(
            "brain", data=fastinit.he_normal((320, 480), seed=0, dtype="bfloat16").view("V2")
        )
        opened["text"] = "no number"
        opened["count"] = np.arange(3)
    found = diagnose(file)
    for name in ("big", "packed", "half", "brain"):
        assert found[f"model/{name}"].std == pytest.approx(
            kernel.std(dtype=float), rel=1e-2 if name == "brain" else 1e-3
        )
    assert set(found.skipped) == {"optimizer", "model/text"}
    good = file.read_bytes()
    for length in range(0, len(good), len(good) // 40):
        file.write_bytes(good[:length])
        with pytest.raises(ValueError, match=r"w\.h5"):
            diagnose(file)


def test_a_model_of_keras_equals_its_files(python, tmp_path):
    pytest.importorskip("keras")
    pytest.importorskip("h5py")
    program = f"""
    import os
    os.environ["KERAS_BACKEND"] = "numpy"
    import logging
    logging.disable()
    import keras
    from keras import layers
    from fastinit import diagnose
    x = keras.Input((8, 8, 3))
    y = layers.DepthwiseConv2D(3)(layers.Conv2D(4, 3, name="first")(x))
    y = layers.BatchNormalization(scale=False)(layers.SeparableConv2D(5, 2, use_bias=False)(y))
    y = layers.LayerNormalization()(layers.Conv2DTranspose(6, 3)(y))
    y = keras.Sequential([layers.Reshape((-1, 6)), layers.Bidirectional(layers.GRU(7))])(y)
    y = layers.Dense(4, kernel_initializer="orthogonal", name="last")(y)
    model = keras.Model(x, y)
    model.compile("adam")
    def rows_of(found):
        return sorted((r.role, r.shape, r.std, r.fan_in, r.scheme, r.name.split("/")[-1]) for r in found.rows)
    expected = rows_of(diagnose(model))
    for name in ("w.keras", "w.h5", "w.weights.h5"):
        path = os.path.join({str(tmp_path)!r}, name)
        (model.save_weights if "weights" in name else model.save)(path)
        found = diagnose(path)
        for row, other in zip(rows_of(found), expected, strict=True):
            assert row == other, (name, row, other)
        assert not found.findings and len(found.skipped) == 1, found
        assert found.rows[0].name.startswith("first/") or name != "w.keras", found.rows[0]
    print("equal")
    """
    assert python(program) == "equal\n"


def strings(text):
    return len(text).to_bytes(8, "little") + text.encode()


def gguf_file(path, tensors, values=(), version=3):
    """A file of llama.cpp: tensors by name, as the number of their type, their shape, and their bytes."""
    head, data = b"", b""
    for name, (kind, shape, raw) in tensors.items():
        head += strings(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape[::-1], kind, len(data))
        data += raw.ljust(-(-len(raw) // 32) * 32, b"\0")
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(values)) + b"".join(values) + head
    path.write_bytes(head.ljust(-(-len(head) // 32) * 32, b"\0") + data)
    return path


def test_gguf(tmp_path):
    kernel = fastinit.he_normal((64, 32), seed=0, in_axis=1, out_axis=0)
    values = [
        strings("general.architecture") + struct.pack("<I", 8) + strings("llama"),
        strings("scores") + struct.pack("<IIQ3f", 9, 6, 3, 1, 2, 3),
        strings("tokens") + struct.pack("<IIQ", 9, 8, 2) + strings("a") + strings("bc"),
        strings("n") + struct.pack("<IQ", 10, 7),
    ]
    tensors = {
        "token_embd.weight": (0, (16, 32), fastinit.random_normal((16, 32), stddev=1.0, seed=0).tobytes()),
        "blk.0.attn_q.weight": (1, (64, 32), kernel.astype(np.float16).tobytes()),
        "blk.1.attn_q.weight": (30, (64, 32), (kernel.view(np.uint32) >> 16).astype(np.uint16).tobytes()),
        "blk.0.attn_norm.weight": (0, (32,), np.ones(32, np.float32).tobytes()),
        "blk.0.ffn_up.weight": (8, (64, 32), bytes(64 * 34)),
        "rope": (26, (3,), bytes(12)),
    }
    file = gguf_file(tmp_path / "w.gguf", tensors, values)
    found = diagnose(file)
    assert {row.name: row.role for row in found.rows} == {
        "token_embd.weight": "embedding",
        "blk.0.attn_q.weight": "kernel",
        "blk.1.attn_q.weight": "kernel",
        "blk.0.attn_norm.weight": "scale",
    }
    assert found["blk.0.attn_q.weight"].fan_in == 32
    assert found["blk.0.attn_q.weight"].scheme == found["blk.1.attn_q.weight"].scheme == "he_normal"
    assert "quantized (type 8 of GGML)" in found.skipped["blk.0.ffn_up.weight"]
    assert set(found.skipped) == {"blk.0.ffn_up.weight"}
    try:
        import gguf
    except ImportError:
        return
    for tensor in gguf.GGUFReader(file).tensors:
        if tensor.name not in found.skipped and tensor.name != "rope":
            assert found[tensor.name].shape == tuple(tensor.shape.tolist()[::-1])


def test_gguf_that_is_damaged(tmp_path):
    ones = np.ones((4, 4), np.float32).tobytes()
    file = gguf_file(tmp_path / "w.gguf", {"a.weight": (0, (4, 4), ones)})
    good = file.read_bytes()
    for length in range(len(good) - 64):
        file.write_bytes(good[:length])
        with pytest.raises(ValueError, match=r"w\.gguf"):
            diagnose(file)
    for shape in ((2**40, 2**20), (2**63, 4)):
        gguf_file(file, {"a": (0, shape, ones)})
        with pytest.raises(ValueError, match="ends before the data"):
            diagnose(file)
    for version in (1, 4, 3 << 24):
        gguf_file(file, {"a": (0, (4, 4), ones)}, version=version)
        with pytest.raises(ValueError, match="version"):
            diagnose(file)
    gguf_file(file, {"a": (0, (4, 4), ones[:32]), "b": (0, (4, 4), ones)})
    with pytest.raises(ValueError, match="'a' and 'b' overlap"):
        diagnose(file)
    gguf_file(file, {"a": (0, (4, 4), ones)}, [strings("k") + struct.pack("<I", 99)])
    with pytest.raises(ValueError, match="unknown type 99"):
        diagnose(file)
    head = b"GGUF" + struct.pack("<IQQ", 3, 2**60, 2**60)
    for end in (b"", strings("k") + struct.pack("<IIQ", 9, 9, 2**60), struct.pack("<Q", 2**62)):
        file.write_bytes(head + end)
        with pytest.raises(ValueError, match="damaged"):
            diagnose(file)


def onnx_file(path, **options):
    onnx = pytest.importorskip("onnx")
    node = onnx.helper.make_node
    shapes = {
        "emb": (40, 32),
        "fc.w": (64, 32),
        "matmul": (64, 10),
        "conv": (3, 8, 3, 3),
        "w": (1, 64, 10),
        "r": (1, 64, 16),
        "half": (10, 20),
        "table": (12, 12),
    }
    made = {
        name: fastinit.random_normal(shape, stddev=0.2, seed=0, stream=name) for name, shape in shapes.items()
    }
    made["half"] = made["half"].astype(np.float16)
    made |= {"g": np.ones(8, np.float32), "b": np.zeros(8, np.float32), "shape": np.array([1, 2])}
    nodes = [
        node("Gather", ["emb", "ids"], ["x0"]),
        node("Gemm", ["x0", "fc.w"], ["x1"], transB=1),
        node("MatMul", ["x1", "matmul"], ["x2"]),
        node("Cast", ["half"], ["wide"], to=1),
        node("MatMul", ["x2", "wide"], ["x3"]),
        node("ConvTranspose", ["x3", "conv"], ["x4"]),
        node("LayerNormalization", ["x4", "g", "b"], ["x5"]),
        node("LSTM", ["x5", "w", "r"], ["x6"], hidden_size=16),
        node("Add", ["x6", "table"], ["y"]),
    ]
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in made.items()]
    bits = onnx.TensorProto.DataType.BFLOAT16
    tensors.append(onnx.helper.make_tensor("fc.brain", bits, (4, 4), range(16)))
    graph = onnx.helper.make_graph(nodes, "g", [], [], tensors)
    onnx.save(onnx.helper.make_model(graph), path, **options)
    return path


@pytest.mark.parametrize("is_external", [True, False], ids=["beside", "inside"])
def test_onnx(tmp_path, is_external):
    options = {"save_as_external_data": True, "location": "w.data", "size_threshold": 0}
    found = diagnose(onnx_file(tmp_path / "w.onnx", **(options if is_external else {})))
    rows = {row.name: (row.role, row.fan_in, row.fan_out) for row in found.rows}
    assert rows == {
        "emb": ("embedding", 32, 40),
        "fc.w": ("kernel", 32, 64),
        "matmul": ("kernel", 64, 10),
        "half": ("kernel", 10, 20),
        "conv": ("kernel", 27, 72),
        "g": ("scale", None, None),
        "b": ("bias", None, None),
        "w": ("kernel", 10, 64),
        "r": ("recurrent", 16, 64),
        "table": ("parameter", None, None),
        "fc.brain": ("kernel", 4, 4),
    }
    assert found["fc.brain"].max == 15.0
    assert found["emb"].std == pytest.approx(0.2, rel=0.1)
    assert not found.skipped


def test_onnx_names_files_beside_it_only(tmp_path):
    onnx = pytest.importorskip("onnx")
    file = onnx_file(tmp_path / "w.onnx", save_as_external_data=True, location="w.data", size_threshold=0)
    model = onnx.load(file, load_external_data=False)
    for place in ("../w.data", "/etc/passwd", "..", "", "missing", "a\\b"):
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                entry.value = place if entry.key == "location" else entry.value
        file.write_bytes(model.SerializeToString())
        with pytest.raises((ValueError, OSError), match="file"):
            diagnose(file)


@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose"])
def test_onnx_with_groups_that_do_not_fit(tmp_path, kind):
    onnx = pytest.importorskip("onnx")
    kernel = onnx.numpy_helper.from_array(fastinit.he_normal((8, 8, 3, 3), seed=0), "w")
    for groups in (2, 3, 2**60):
        node = onnx.helper.make_node(kind, ["x", "w"], ["y"], group=groups)
        graph = onnx.helper.make_graph([node], "g", [], [], [kernel])
        onnx.save(onnx.helper.make_model(graph), tmp_path / "w.onnx")
        if groups == 2:
            assert diagnose(tmp_path / "w.onnx")["w"].role == "kernel"
            continue
        with pytest.raises(ValueError, match=rf"w\.onnx .* 'w' .* in {groups} groups"):
            diagnose(tmp_path / "w.onnx")


@pytest.mark.parametrize(
    ("suffix", "library"), [(".h5", "h5py"), (".keras", "h5py"), (".onnx", "onnx"), (".pt", "torch")]
)
def test_the_error_says_what_to_install(tmp_path, monkeypatch, suffix, library):
    monkeypatch.setitem(sys.modules, library, None)
    file = tmp_path / f"w{suffix}"
    file.write_bytes(b"something else")
    with pytest.raises(ImportError, match=rf"reading w\{suffix} needs {library}: pip install"):
        diagnose(file)


def test_an_unknown_suffix(tmp_path):
    (tmp_path / "w.txt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"must be \.safetensors.*, .* or a directory") as caught:
        diagnose(tmp_path / "w.txt")
    suffixes = set(re.findall(r"\.\w+", str(caught.value).partition("must be")[2])) - {".index", ".json"}
    assert len(suffixes) == 12
    for suffix in suffixes:  # All that are named are read: the file is found to be damaged.
        (tmp_path / f"w{suffix}").write_bytes(b"?")
        with pytest.raises(
            (ValueError, ImportError), match=rf"w\{suffix} .*damaged|w\{suffix} needs|'array'"
        ):
            diagnose(tmp_path / f"w{suffix}")
    root = Path(__file__).parents[2]
    pages = [(root / name).read_text("utf-8") for name in ("docs/guide.md", "python/fastinit/cli.py")]
    for text in (*pages, diagnose.__doc__):
        assert not [suffix for suffix in suffixes if suffix not in text]


# Interrupts


def interrupt():
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


@unix
@pytest.mark.parametrize("tensors", [1, 5])
@pytest.mark.parametrize("threads", [1, 2])
def test_an_interrupt_ends_the_reading_of_a_part(monkeypatch, tensors, threads):
    # Without a look at the chunks that are to come, this would never end.
    once = iter([interrupt])

    def endless(self, stop):
        def read(*_):
            while True:
                next(once, lambda: None)()
                yield np.zeros(1024, np.float32)

        object.__setattr__(self.tensor, "read", read)
        return part(self, stop)

    part = parts.Part.measure
    monkeypatch.setattr(parts.Part, "measure", endless)
    monkeypatch.setattr(measure, "get_num_threads", lambda: threads)
    x = {f"a{i}": np.zeros(2**20, np.float32) for i in range(tensors)}
    with pytest.raises(KeyboardInterrupt):
        diagnose(x)


@unix
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_an_interrupt_ends_the_reading_of_a_file(tmp_path, monkeypatch, suffix, order):
    file = tmp_path / f"w{suffix}"
    if suffix == ".npz":
        write_npz(file, {"array": member((4096, 8192), bytes(2**27), fortran=order == "F")})
    else:
        file.write_bytes(member((4096, 8192), b"", fortran=order == "F"))
        os.truncate(file, 2**28)
    pieces = 0
    read_exactly = elements.read_exactly

    def counted(*arguments):
        nonlocal pieces
        pieces += 1
        if pieces == 3:
            interrupt()
        read_exactly(*arguments)

    monkeypatch.setattr(elements, "read_exactly", counted)
    with pytest.raises(KeyboardInterrupt):
        diagnose(file)
    assert pieces < 64 < 2**27 // 2**20


# Text on the terminal

HOSTILE = "\x1b]0;title\x07\x1b[2J\x9b31m\u202e\n"


def run(*arguments, cwd):
    done = subprocess.run(
        [sys.executable, "-m", "fastinit", *arguments],
        capture_output=True,
        cwd=cwd,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "500", "PYTHONIOENCODING": "utf-8"},
        check=False,
    )
    return done.returncode, (done.stdout + done.stderr).decode()


def weights(path, suffix):
    if suffix == ".npy":
        np.save(path, np.zeros((8, 8), np.float32))
    elif suffix == ".npz":
        write_npz(path, {HOSTILE: member((8, 8), bytes(256))})
    else:
        safetensors_file(path)


COMMANDS = {
    "missing": ("diagnose", "{}.npy"),
    "damaged": ("diagnose", "bad{}.npy"),
    "damaged archive": ("diagnose", "bad{}.npz"),
    "damaged safetensors": ("diagnose", "bad{}.safetensors"),
    "a directory": ("diagnose", "dir{}"),
    "unknown": ("diagnose", "bad{}"),
    "findings": ("diagnose", "good{}.npz"),
    "findings as JSON": ("diagnose", "good{}.npz", "--json"),
    "pattern": ("diagnose", "good{}.npz", "--expect", "{}=he_normal"),
    "expect": ("diagnose", "good{}.npz", "--expect", "{}"),
    "too many files": ("diagnose", "a", "b{}"),
    "picture of what is missing": ("show", "{}.npy", "-o", "w.png"),
    "picture of what is damaged": ("show", "bad{}.npy", "-o", "w.png"),
    "picture": ("show", "he_normal", "-o", "no{}/w.png"),
    "written": ("sample", "zeros", "2x2", "-o", "new{}.npy"),
    "not written": ("sample", "zeros", "2x2", "-o", "no{}/w.npy"),
    "not a regular file": ("sample", "zeros", "2x2", "-o", "dir{}.npy"),
    "initializer": ("sample", "ze{}ros", "2x2", "-o", "w.npy"),
    "shape": ("sample", "zeros", "2{}x2", "-o", "w.npy"),
    "seed": ("sample", "zeros", "2x2", "-o", "w.npy", "--seed", "{}"),
    "option": ("sample", "--see{}"),
    "command": ("{}",),
    "proposal": ("recommend", "relu", "--proposal", "he{}"),
    "label": ("signal", "random_normal:stddev=0.1{}", "--depth", "2", "--width", "8"),
}


@unix
@pytest.mark.parametrize("kind", COMMANDS)
def test_names_reach_the_terminal_escaped(tmp_path, kind):
    pytest.importorskip("typer")
    for suffix in ("", ".npy", ".npz", ".safetensors"):
        (tmp_path / f"bad{HOSTILE}{suffix}").write_bytes(b"something else")
        if suffix:
            weights(tmp_path / f"good{HOSTILE}{suffix}", suffix)
    (tmp_path / f"dir{HOSTILE}").mkdir()
    (tmp_path / f"dir{HOSTILE}.npy").mkdir()
    status, text = run(*(part.format(HOSTILE) for part in COMMANDS[kind]), cwd=tmp_path)
    assert text.isascii() or printable(text.replace("\n", "")) == text.replace("\n", "")
    assert "\x1b" not in text
    assert not {"\x07", "\x9b", "\u202e"} & set(text)
    assert kind == "seed" or status in (0, 1, 2)
    assert "Traceback" not in text


@unix
def test_an_unexpected_error_is_escaped(tmp_path):
    pytest.importorskip("typer")
    (tmp_path / "sitecustomize.py").write_text(
        "import json\ndef fail(*_, **__):\n    raise RuntimeError('\\x1b[31m broken')\njson.dumps = fail\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "fastinit", "info", "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])},
        check=False,
    )
    assert done.returncode == 1
    assert "RuntimeError: \\x1b[31m broken" in done.stderr
    assert "\x1b" not in done.stderr
