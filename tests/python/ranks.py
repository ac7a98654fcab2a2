"""What each process of a distributed run does: one check after the other, and takes down how they went.

    python ranks.py WORLD FOLDER

A check is a generator. Where it yields, the processes meet, so that the failure of one does not leave the
others waiting, and what it yields is compared: tensors by name, each with what it should be, bit for bit. Of
a `DTensor` that is the part that PyTorch itself would place here. `test_torch_distributed.py` starts the
processes; what is below `torch.distributed` is imported only in them.
"""

import contextlib
import copy
import datetime
import functools
import itertools
import json
import math
import multiprocessing
import os
import sys
import traceback
import warnings
from pathlib import Path

import poison
import torch
import torch.distributed as dist
from torch import nn

import fastinit
import fastinit.torch as init

SEED = 7
WORLDS = (1, 2, 3, 4)

CHECKS = {}  # by name, with the numbers of processes, and what to run


def check(worlds=WORLDS, cases=((),)):
    """Registers a function, to be run for each case on these numbers of processes, which may depend on it."""

    def add(function):
        for case in cases:
            name = " ".join([function.__name__, *map(str, case)])
            numbers = worlds(*case) if callable(worlds) else worlds
            CHECKS[name] = (numbers, functools.partial(function, *case))
        return function

    return add


def names(world):
    return [name for name, (worlds, _) in CHECKS.items() if world in worlds]


# Processes


def main(world, folder):
    import torch.distributed.fsdp
    import torch.distributed.tensor.debug
    import torch.distributed.tensor.parallel  # noqa: F401 - for the checks

    # A fork has all that already.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    processes = [context.Process(target=work, args=(rank, world, folder)) for rank in range(world)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    sys.exit(any(process.exitcode for process in processes))


def work(rank, world, folder):
    errors = os.open(folder / f"{rank}.errors", os.O_WRONLY | os.O_CREAT)
    os.dup2(errors, sys.stderr.fileno())
    warnings.simplefilter("ignore")
    warnings.filterwarnings("error", message=".* not initialized")
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=world,
        timeout=datetime.timedelta(seconds=30),
    )
    with (folder / f"{rank}.outcomes").open("w") as out, poison.poisoned():
        for name in names(world):
            _, function = CHECKS[name]
            torch.manual_seed(rank)
            print(json.dumps([name, outcome(function())]), file=out, flush=True)
    # Without it gloo may abort.
    dist.barrier()
    dist.destroy_process_group()


def outcome(steps):
    """Runs a check. Returns what went wrong, the same in all processes."""
    while True:
        pairs, trouble = None, ""
        try:
            pairs = next(steps, None)
            wrong = [difference(name, *pair) for name, pair in (pairs or {}).items()]
            trouble = "\n".join(filter(None, wrong))
        except Exception:
            trouble = traceback.format_exc()
        if (met := meet(trouble)) or pairs is None:
            return met


def meet(trouble):
    """The troubles of all processes."""
    count = torch.tensor(int(bool(trouble)), device="cpu")
    dist.all_reduce(count)
    if count == 0:
        return ""
    troubles = [""] * dist.get_world_size()
    dist.all_gather_object(troubles, trouble)
    return "\n".join(f"rank {rank}: {text}" for rank, text in enumerate(troubles) if text)


def difference(name, got, expected):
    """How a tensor differs from what it should be, if it does; of a DTensor, what lies here."""
    where = "plain"
    if is_sharded(got):
        where = f"{got.placements} of {tuple(got.shape)}"
        expected = dist.tensor.distribute_tensor(
            expected.detach(), got.device_mesh, got.placements, src_data_rank=None
        ).to_local()
        got = got.to_local()
    kinds = [(str(t.device), t.dtype, tuple(t.shape)) for t in (got, expected)]
    if kinds[0] != kinds[1]:
        return f"{name}, {where}: is {kinds[0]}, should be {kinds[1]}"
    unequal = int((bits(got) != bits(expected)).sum())
    return f"{name}, {where}: {unequal} of {got.numel()} elements are wrong" if unequal else ""


def bits(tensor):
    """To compare what NaN and signed zeros would hide."""
    kinds = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.uint8}
    return tensor.detach().contiguous().view(kinds[tensor.itemsize])


# What checks share


def is_sharded(tensor):
    return isinstance(tensor, dist.tensor.DTensor)


@functools.cache
def mesh_of(*shape):
    return dist.tensor.init_device_mesh("cpu", shape)


def line():
    """The mesh of one dimension."""
    return mesh_of(dist.get_world_size())


def placements(text, dim=math.inf):
    """Placements from a text like "R S0"; a dimension that a tensor lacks is not sharded."""
    return [
        dist.tensor.Shard(int(word[1:])) if word != "R" and int(word[1:]) < dim else dist.tensor.Replicate()
        for word in text.split()
    ]


def place(tensor, text, mesh=None):
    """This part of a tensor, without communication."""
    return dist.tensor.distribute_tensor(
        tensor.detach(), mesh or line(), placements(text, tensor.dim()), src_data_rank=None
    )


def place_all(model, text, mesh=None):
    """Turns the parameters of a model into DTensors of other contents."""
    for module in model.modules():
        for name, value in module._parameters.items():
            if value is not None:
                module._parameters[name] = parameter(place(torch.full_like(value, 7), text, mesh))
    return model


def parameter(tensor):
    """What `nn.Parameter` makes of a new DTensor, without its slow `detach`, planned anew for each shape."""
    tensor.requires_grad_()._is_param = True
    return tensor


def pairs_of(model, expected):
    """The parameters of a model beside those of another one."""
    theirs = dict(expected.named_parameters())
    found = {name.replace("_checkpoint_wrapped_module.", ""): p for name, p in model.named_parameters()}
    assert found.keys() == theirs.keys()
    return {name: (value, theirs[name].detach()) for name, value in found.items()}


def whole_pairs_of(model, expected):
    """The same of the assembled parameters, which takes communication: a yield has to come before."""
    return {
        f"{name}, assembled from {value.placements}": (value.full_tensor(), theirs)
        for name, (value, theirs) in pairs_of(model, expected).items()
    }


def on_meta(kind, *arguments):
    with torch.device("meta"):
        return kind(*arguments)


@contextlib.contextmanager
def no_communication():
    with dist.tensor.debug.CommDebugMode() as mode:
        yield
    assert mode.get_total_counts() == 0, f"communicated: {dict(mode.get_comm_counts())}"


def raises(function):
    """Whether this raises an error, in each process in turn."""
    try:
        function()
        raised = False
    except Exception:
        raised = True
    everywhere = [None] * dist.get_world_size()
    dist.all_gather_object(everywhere, raised)
    return everywhere


class Holder(nn.ModuleDict):
    """Modules side by side; FSDP wants a forward."""

    def forward(self, x):
        return x


def model(dtype=torch.float32):
    """On 4 processes the shards of `seven` are uneven, and some of those of `two` and `five` are empty."""
    return Holder(
        {
            "linear": nn.Linear(33, 17),
            "seven": nn.Linear(5, 7),
            "two": nn.Linear(9, 2),
            "five": nn.Linear(3, 5, bias=False),
            "conv": nn.Conv2d(5, 7, (3, 4)),
            "embedding": nn.Embedding(29, 20, padding_idx=3),
            "norm": nn.LayerNorm(11),
            "attention": nn.MultiheadAttention(12, 4),
            "square": nn.Linear(12, 12, bias=False),
            "fused": nn.Linear(12, 21, bias=False),
            "sparse": nn.Linear(10, 13, bias=False),
            "cut": nn.Linear(13, 10),
            "scaled": nn.Linear(6, 10, bias=False),
        }
    ).to(dtype)


RULES = {
    "square.weight": init.orthogonal_,
    "fused.weight": functools.partial(init.orthogonal_, gain=2.0),
    "sparse.weight": functools.partial(init.sparse_, sparsity=0.3),
    "cut.weight": functools.partial(init.trunc_normal_, std=0.02, a=-0.03, b=0.01),
    "conv.weight": functools.partial(nn.init.kaiming_normal_, mode="fan_out", nonlinearity="relu"),
    "five.weight": init.xavier_normal_,
    "scaled.weight": fastinit.VarianceScaling(2.0, "fan_avg"),
    "norm.weight": 0.5,
}
# None of the blocks ends where a shard does.
BLOCKS = {"attention.in_proj_weight": [10, 19, 7], "fused.weight": 3, "sparse.weight": [1, 5, 7]}


@functools.cache
def expected_model(dtype=torch.float32):
    expected = model(dtype)
    init.initialize(expected, SEED, RULES, blocks=BLOCKS)
    return expected


def initialize(value):
    with no_communication():
        return init.initialize(value, SEED, RULES, blocks=BLOCKS)


# Placements

PLACED = [
    (mesh, " ".join(words))
    for mesh in ("1", "2", "3", "4", "2x2")
    for words in itertools.product(("R", "S0", "S1"), repeat=1 + mesh.count("x"))
] + [
    ("4", "S2"),
    ("4", "S3"),
    ("2x2", "S2 S3"),
    ("1x1", "S0 S1"),
    ("1x2", "S1 S0"),
    ("2x1", "S1 S1"),
    ("1x3", "S0 S0"),
    ("2x1x2", "S0 R S0"),
    ("1x2x2", "S1 S0 S0"),
]


def shape_of(mesh):
    return tuple(map(int, mesh.split("x")))


@check(lambda mesh, _: [math.prod(shape_of(mesh))], cases=PLACED)
def placed(mesh, text):
    sharded = place_all(model(), text, mesh_of(*shape_of(mesh)))
    initialize(sharded)
    yield pairs_of(sharded, expected_model())
    if "x" not in mesh:
        yield whole_pairs_of(sharded, expected_model())


@check(cases=itertools.product(("bfloat16", "float16", "float64"), ("S0", "S1")))
def dtypes(name, text):
    dtype = getattr(torch, name)
    sharded = place_all(model(dtype), text)
    initialize(sharded)
    yield pairs_of(sharded, expected_model(dtype))


@check((4,))
def ranks_in_another_order():
    mesh = dist.tensor.DeviceMesh("cpu", [[3, 1], [0, 2]])
    for text in ("S0 S1", "S1 S0", "S0 S0", "S0 R"):
        sharded = place_all(model(), text, mesh)
        initialize(sharded)
        yield pairs_of(sharded, expected_model())


@check((3, 4))
def processes_outside_of_the_mesh():
    mesh = dist.tensor.DeviceMesh("cpu", [0, 2])
    sharded = place_all(model(), "S0", mesh)
    before = torch.get_rng_state()
    report = initialize(sharded)
    assert [row.name for row in report.rows] == [name for name, _ in expected_model().named_parameters()]
    yield pairs_of(sharded, expected_model())
    yield {"generator": (torch.get_rng_state(), before)}
    yield drawn_pairs(init.normal_, (5, 3), "S0", mesh=mesh)


@check()
def shards_in_any_memory_layout():
    world = dist.get_world_size()
    local = torch.zeros(5, 3).T
    tensor = dist.tensor.DTensor.from_local(local, line(), placements("S0"))
    torch.manual_seed(SEED)
    init.normal_(tensor)
    torch.manual_seed(SEED)
    yield {"transposed": (tensor, init.normal_(torch.empty(3 * world, 5)))}
    assert tensor.to_local().data_ptr() == local.data_ptr()
    plain = nn.Conv2d(4, 7, 3).to(memory_format=torch.channels_last)
    for text in ("S0", "S1"):
        sharded = place_all(copy.deepcopy(plain), text)
        init.initialize(sharded, SEED)
        init.initialize(plain, SEED)
        yield pairs_of(sharded, plain)


@check((2,))
def a_shard_of_another_shape_is_refused():
    local = torch.full((2 * dist.get_rank() + 1, 3), 7.0)
    tensor = dist.tensor.DTensor.from_local(local, line(), placements("S0"), shape=(4, 3), stride=(3, 1))
    assert all(raises(lambda: init.normal_(tensor)))
    yield {"unchanged": (local, torch.full_like(local, 7.0))}


# FSDP


class Net(nn.Module):
    """All sizes are odd."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(29, 33, padding_idx=3)
        self.up = nn.Linear(33, 17)
        self.norm = nn.LayerNorm(17)
        self.down = nn.Linear(17, 7)
        self.last = nn.Linear(7, 3)

    def forward(self, x):
        return self.last(self.down(self.norm(self.up(self.embedding(x)).tanh())).tanh())


def train(net):
    """What a step of an optimizer gives."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5, momentum=0.9)
    for _ in range(2):
        net(torch.arange(12).view(3, 4)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return net(torch.arange(12).view(3, 4)).detach()


def close_pairs(net, expected):
    """Pairs of the tensors that should be, where the others are close to them."""
    theirs = {name: value.detach() for name, value in expected.named_parameters()}
    result = {}
    for name, value in net.named_parameters():
        whole = value.full_tensor().detach()
        is_close = torch.allclose(whole, theirs[name], atol=1e-5)
        result[f"{name} after training"] = (theirs[name] if is_close else whole, theirs[name])
    return result


@check(cases=[("from meta",), ("to_empty",), ("in place",)])
def fsdp(way):
    net = Net() if way == "in place" else on_meta(Net)
    for child in (net.up, net.down):
        dist.fsdp.fully_shard(child, mesh=line())
    dist.fsdp.fully_shard(net, mesh=line())
    if way == "to_empty":
        net.to_empty(device="cpu")
    plain = Net()
    init.initialize(plain, SEED)
    with no_communication():
        init.initialize(net, SEED)
    yield pairs_of(net, plain)
    yield whole_pairs_of(net, plain)
    assert torch.allclose(train(net), train(plain), atol=1e-5)
    yield {}
    net.reshard()
    yield close_pairs(net, plain)
    for each in (net, plain):
        init.initialize(each, SEED + 1)
    yield pairs_of(net, plain)
    assert torch.equal(net(torch.arange(5)), plain(torch.arange(5)))
    yield {}


@check(cases=[("",), ("bfloat16",)])
def fsdp_of_many_modules(dtype):
    kind = functools.partial(model, getattr(torch, dtype or "float32"))
    sharded = on_meta(kind)
    dist.fsdp.fully_shard(sharded["linear"], mesh=line())
    dist.fsdp.fully_shard(sharded, mesh=line())
    initialize(sharded)
    yield pairs_of(sharded, expected_model(*kind.args))
    yield whole_pairs_of(sharded, expected_model(*kind.args))


@check()
def fsdp_along_dimension_1():
    sizes = 12, 24, 36
    sharded = on_meta(lambda: nn.Sequential(*(nn.Linear(n, 12, bias=False) for n in sizes)))
    plain = nn.Sequential(*(nn.Linear(n, 12, bias=False) for n in sizes))
    dist.fsdp.fully_shard(sharded, mesh=line(), shard_placement_fn=lambda _: dist.tensor.Shard(1))
    init.initialize(plain, SEED)
    init.initialize(sharded, SEED)
    assert sharded[0].weight.placements == (dist.tensor.Shard(1),)
    yield pairs_of(sharded, plain)
    yield whole_pairs_of(sharded, plain)


@check()
def fsdp_of_tied_parameters():
    class Tied(Net):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(33, 29, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, x):
            return self.head(self.embedding(x))

    sharded, plain = on_meta(Tied), Tied()
    dist.fsdp.fully_shard(sharded, mesh=line())
    report = init.initialize(sharded, SEED)
    init.initialize(plain, SEED)
    assert sharded.head.weight is sharded.embedding.weight
    assert report["head.weight"].name == "embedding.weight"
    yield pairs_of(sharded, plain)
    assert torch.allclose(train(sharded), train(plain), atol=1e-5)
    yield {}
    sharded.reshard()
    for each in (sharded, plain):
        init.initialize(each, SEED, {"head.weight": "he_normal"}, blocks={"head.weight": [5, 24]})
    yield pairs_of(sharded, plain)


@check()
def fsdp_of_checkpointed_modules():
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    sharded, plain = on_meta(Net), Net()
    sharded.up = checkpoint_wrapper(sharded.up)
    dist.fsdp.fully_shard(sharded, mesh=line())
    init.initialize(sharded, SEED)
    init.initialize(plain, SEED)
    yield pairs_of(sharded, plain)


@check()
def fsdp_of_a_stage_with_a_prefix():
    sharded, plain = on_meta(Net), nn.ModuleDict({"stage": Net()})
    dist.fsdp.fully_shard(sharded, mesh=line())
    init.initialize(sharded, SEED, {"stage.up.*": 0.25}, prefix="stage.")
    init.initialize(plain, SEED, {"stage.up.*": 0.25})
    yield pairs_of(sharded, plain["stage"])


@check((2, 4), cases=[(1,), (2,)])
def hsdp(copies):
    shape = copies, dist.get_world_size() // copies
    mesh = dist.tensor.init_device_mesh("cpu", shape, mesh_dim_names=("copies", "data"))
    net, plain = on_meta(Net), Net()
    dist.fsdp.fully_shard(net.up, mesh=mesh)
    dist.fsdp.fully_shard(net, mesh=mesh)
    init.initialize(plain, SEED)
    with no_communication():
        init.initialize(net, SEED)
    assert net.up.weight.placements == tuple(placements("R S0"))
    yield pairs_of(net, plain)
    yield whole_pairs_of(net, plain)
    assert torch.allclose(train(net), train(plain), atol=1e-5)
    yield {}


@check()
def ddp():
    plain = Net()
    init.initialize(plain, SEED)
    net = nn.parallel.DistributedDataParallel(Net())
    with no_communication():
        init.initialize(net, SEED)
    yield pairs_of(net.module, plain)


# Tensor parallel


class Block(nn.Module):
    def __init__(self, inner, outer):
        super().__init__()
        self.rows = nn.Embedding(inner, outer, padding_idx=inner - 1)
        self.columns = nn.Embedding(inner, outer, padding_idx=1)
        self.norm = nn.LayerNorm(outer)
        self.up = nn.Linear(outer, inner)
        self.down = nn.Linear(inner, outer)

    def forward(self, x):
        return self.down(torch.relu(self.up(self.rows(x) + self.columns(x))))


def parallelize(block, mesh):
    parallel = dist.tensor.parallel
    replicate = dist.tensor.Replicate()
    plan = {
        "rows": parallel.RowwiseParallel(input_layouts=replicate, output_layouts=replicate),
        "columns": parallel.ColwiseParallel(output_layouts=replicate),
        "norm": parallel.SequenceParallel(),
        "up": parallel.ColwiseParallel(),
        "down": parallel.RowwiseParallel(),
    }
    return parallel.parallelize_module(block, mesh, plan)


SIZES = [(24, 12), (18, 13), (7, 5)]


def blocks_for(inner, outer):
    return {"up.weight": [3, inner - 3], "down.weight": [1, outer - 2, 1]}


@check(cases=[(*sizes, where) for sizes in SIZES for where in ("meta", "cpu")])
def tensor_parallel(inner, outer, where):
    with torch.device(where):
        sharded = Block(inner, outer)
    parallelize(sharded, line())
    plain = Block(inner, outer)
    init.initialize(plain, SEED, blocks=blocks_for(inner, outer))
    with no_communication():
        init.initialize(sharded, SEED, blocks=blocks_for(inner, outer))
    assert sharded.up.weight.placements == tuple(placements("S0"))
    assert sharded.down.weight.placements == tuple(placements("S1"))
    yield pairs_of(sharded, plain)
    yield whole_pairs_of(sharded, plain)
    if (inner, outer) == SIZES[0]:
        x = torch.arange(5)
        assert torch.allclose(sharded(x), plain(x), atol=1e-5)
        sharded(x).square().sum().backward()
        yield {}


@check((2, 4), cases=[(*sizes, tensor) for sizes in SIZES for tensor in (1, 2)])
def tensor_parallel_and_fsdp(inner, outer, tensor):
    data = dist.get_world_size() // tensor
    mesh = dist.tensor.init_device_mesh("cpu", (data, tensor), mesh_dim_names=("data", "tensor"))
    sharded, plain = on_meta(Block, inner, outer), Block(inner, outer)
    parallelize(sharded, mesh["tensor"])
    dist.fsdp.fully_shard(sharded, mesh=mesh["data"])
    init.initialize(plain, SEED, blocks=blocks_for(inner, outer))
    with no_communication():
        init.initialize(sharded, SEED, blocks=blocks_for(inner, outer))
    if tensor > 1:
        assert type(sharded.up.weight.placements[0]).__name__ == "_StridedShard"
        assert type(sharded.down.weight.placements[0]).__name__ == "Shard"
    yield pairs_of(sharded, plain)
    yield whole_pairs_of(sharded, plain)
    if (inner, outer) == SIZES[0]:
        x = torch.arange(5)
        assert torch.allclose(sharded(x), plain(x), atol=1e-5)
        sharded(x).square().sum().backward()
        torch.optim.SGD(sharded.parameters(), lr=0.1).step()
        yield {}


@check((4,), cases=[(2, 1, 2), (1, 2, 2), (2, 2, 1)])
def tensor_parallel_and_hsdp(copies, data, tensor):
    names = ("copies", "data", "tensor")
    mesh = dist.tensor.init_device_mesh("cpu", (copies, data, tensor), mesh_dim_names=names)
    sharded, plain = on_meta(Block, 18, 13), Block(18, 13)
    parallelize(sharded, mesh["tensor"])
    dist.fsdp.fully_shard(sharded, mesh=mesh["copies", "data"])
    init.initialize(plain, SEED)
    with no_communication():
        init.initialize(sharded, SEED)
    assert len(sharded.up.weight.placements) == 3
    yield pairs_of(sharded, plain)
    yield whole_pairs_of(sharded, plain)


# Modules


def torch_modules():
    return Holder(
        {
            "linear": nn.Linear(5, 7),
            "conv": nn.Conv2d(4, 6, 3, groups=2),
            "transposed": nn.ConvTranspose1d(3, 5, 2),
            "lstm": nn.LSTM(5, 6, 2, proj_size=3),
            "gru": nn.GRU(4, 5, bidirectional=True),
            "cell": nn.RNNCell(3, 5),
            "encoder": nn.TransformerEncoderLayer(8, 2),
            "transformer": nn.Transformer(8, 2, 1, 1, 16),
            "attention": nn.MultiheadAttention(8, 2, kdim=5, vdim=6, add_bias_kv=True),
            "bilinear": nn.Bilinear(3, 4, 5),
            "prelu": nn.PReLU(5),
            "bag": nn.EmbeddingBag(7, 3, padding_idx=1),
            "embedding": nn.Embedding(7, 3, padding_idx=-1),
            "batch": nn.BatchNorm2d(5),
            "group": nn.GroupNorm(2, 6),
            "instance": nn.InstanceNorm1d(3, affine=True, track_running_stats=True),
            "rms": nn.RMSNorm(5),
            "softmax": nn.AdaptiveLogSoftmaxWithLoss(32, 20, [5, 10]),
        }
    )


@check()
def modules_of_torch():
    sharded, plain = on_meta(torch_modules), torch_modules()
    dist.fsdp.fully_shard(sharded, mesh=line())
    reference = init.initialize(plain, SEED)
    with no_communication():
        report = init.initialize(sharded, SEED)
    yield pairs_of(sharded, plain)
    yield {name: (value, plain.get_buffer(name)) for name, value in sharded.named_buffers()}
    for row, theirs in zip(report.rows, reference.rows, strict=True):
        attributes = ("name", "names", "shape", "rule", "initializer", "distribution", "fan_in", "target_std")
        for attribute in attributes:
            assert getattr(row, attribute) == getattr(theirs, attribute), (row.name, attribute)
    assert report["bag.weight"].rule == "EmbeddingBag.reset_parameters"
    yield {}


@check()
def buffers_that_are_spread():
    plain = nn.BatchNorm1d(5)
    sharded = dist.tensor.distribute_module(nn.BatchNorm1d(5), line())
    sharded.running_mean.fill_(3)
    with no_communication():
        init.initialize(sharded, SEED)
    assert is_sharded(sharded.running_mean)
    yield {name: (value, plain.get_buffer(name)) for name, value in sharded.named_buffers()}


class Own(nn.Module):
    """Its parameters are written to in other ways than those of torch.nn."""

    def __init__(self):
        super().__init__()
        for name, rows in (("seven", 7), ("two", 2), ("five", 5)):
            self.register_parameter(name, nn.Parameter(torch.full((rows, 3), 7.0)))
        self.register_buffer("drawn", torch.empty(4))
        self.reset_parameters()

    def reset_parameters(self):
        with torch.no_grad():
            for weight in self.parameters():
                self.write(weight)
            self.drawn.copy_(torch.randn(4))

    def write(self, weight):
        weight.normal_().mul_(0.5).clamp_(-0.4, 0.4)


class OwnByCopy(Own):
    def write(self, weight):
        other = torch.empty_like(weight)
        other.uniform_(-2.0, 1.0)
        weight.copy_(other)


class OwnByLike(Own):
    def write(self, weight):
        weight.copy_(torch.randn_like(weight))


class OwnByData(Own):
    def write(self, weight):
        weight.data.normal_()


@check(cases=[(kind.__name__,) for kind in (Own, OwnByCopy, OwnByLike, OwnByData)])
def modules_of_ones_own(kind):
    sharded, plain = on_meta(globals()[kind]), globals()[kind]()
    dist.fsdp.fully_shard(sharded, mesh=line())
    init.initialize(plain, SEED)
    with no_communication():
        report = init.initialize(sharded, SEED)
    assert report.uninitialized == ()
    assert not any(value.is_meta for value in sharded.parameters())
    assert plain.five.unique().numel() > 5
    yield pairs_of(sharded, plain)
    yield {"drawn": (sharded.drawn, plain.drawn)}


@check()
def a_function_of_modules_that_writes_to_data():
    def function(module):
        if isinstance(module, nn.Linear):
            module.weight.data.normal_(std=0.02)
            module.bias.data.zero_()

    plain, sharded = nn.Sequential(nn.Linear(3, 2)), on_meta(lambda: nn.Sequential(nn.Linear(3, 2)))
    dist.fsdp.fully_shard(sharded, mesh=line())
    reference = init.initialize(plain, SEED, function)
    report = init.initialize(sharded, SEED, function)
    yield pairs_of(sharded, plain)
    assert [row.rule for row in report.rows] == [row.rule for row in reference.rows]
    assert [row.initializer for row in report.rows] == [row.initializer for row in reference.rows]
    yield {}


@check()
def what_is_not_initialized_stays_on_meta():
    class Silent(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.empty(2, 3))

        def forward(self, x):
            return x

    sharded = on_meta(Silent)
    dist.fsdp.fully_shard(sharded, mesh=line())
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        report = init.initialize(sharded, SEED)
    assert [str(warning.message) for warning in seen] == ["1 parameter was not initialized: weight"]
    assert report.uninitialized == ("weight",)
    assert is_sharded(sharded.weight)
    assert sharded.weight.is_meta
    yield {}


# Embeddings


@check(cases=[("S0",), ("S1",), ("R",)])
def the_row_of_the_padding(text):
    for rows, row in ((29, 0), (29, 28), (29, -1), (5, 2), (2, 1), (1, 0)):
        for kind in (nn.Embedding, nn.EmbeddingBag):
            plain = kind(rows, 7, padding_idx=row)
            sharded = place_all(kind(rows, 7, padding_idx=row), text)
            init.initialize(plain, SEED)
            with no_communication():
                init.initialize(sharded, SEED)
            assert not plain.weight[row].any()
            yield {f"{kind.__name__} {rows} {row}": (sharded.weight, plain.weight)}
    plain, sharded = nn.Embedding(29, 7, padding_idx=9), nn.Embedding(29, 7, padding_idx=9)
    init.initialize(plain, SEED, {"weight": 0.5})
    init.initialize(place_all(sharded, text), SEED, {"weight": 0.5})
    yield {"rule": (sharded.weight, plain.weight)}


@check()
def the_row_of_the_padding_of_a_subclass():
    class Own(nn.Embedding):
        def reset_parameters(self):
            super().reset_parameters()

    plain, sharded = Own(29, 7, padding_idx=9), place_all(Own(29, 7, padding_idx=9), "S0")
    init.initialize(plain, SEED)
    init.initialize(sharded, SEED)
    yield pairs_of(sharded, plain)
    with no_communication():
        init.initialize(sharded, SEED)
    yield {}


# Blocks

BLOCK_RULES = {
    "normal_": init.normal_,
    "kaiming_uniform_": nn.init.kaiming_uniform_,
    "orthogonal_": init.orthogonal_,
    "sparse_": functools.partial(init.sparse_, sparsity=0.4),
    "trunc_normal_": nn.init.trunc_normal_,
    "method": lambda tensor: tensor.uniform_(-1.0, 2.0),
    "zeros_": nn.init.zeros_,
    "lecun_normal": "lecun_normal",
    "number": 0.25,
    "none": None,
}


@check(cases=itertools.product(BLOCK_RULES, ("S0", "S1")))
def blocks(rule, text):
    for sizes in ([1] * 13, [13], [5, 8], [3, 3, 3, 4]):
        plain, sharded = nn.Linear(6, 13), place_all(nn.Linear(6, 13), text)
        nn.init.constant_(plain.weight, 7.0)
        for each in (plain, sharded):
            init.initialize(each, SEED, {"weight": BLOCK_RULES[rule]}, blocks={"weight": sizes})
        yield {f"{sizes}": (sharded.weight, plain.weight)}


# What they do to a block of a DTensor, they cannot do to its shards.
ODD_RULES = {
    "dirac_": (init.dirac_, (8, 4, 3)),
    "eye_": (init.eye_, (8, 4)),
    "data": (lambda tensor: tensor.data.normal_(), (8, 4)),
    "detach": (lambda tensor: tensor.detach().normal_(), (8, 4)),
    "row": (lambda tensor: tensor[0].fill_(3.0), (8, 4)),
    "copy_": (lambda tensor: tensor.copy_(torch.full(tensor.shape, 3.0)), (8, 4)),
    "mul_": (lambda tensor: tensor.mul_(2.0), (8, 4)),
}


class Weight(nn.Module):
    def __init__(self, *shape):
        super().__init__()
        self.weight = nn.Parameter(torch.full(shape, 7.0))


@check((1, 2, 4), cases=[(rule,) for rule in ODD_RULES])
def blocks_are_filled_or_refused(rule):
    function, shape = ODD_RULES[rule]
    plain, sharded = Weight(*shape), place_all(Weight(*shape), "S0")
    init.initialize(plain, SEED, {"weight": function}, blocks={"weight": 2})
    refused = raises(lambda: init.initialize(sharded, SEED, {"weight": function}, blocks={"weight": 2}))
    if all(refused):
        yield {"unchanged": (sharded.weight, torch.full(shape, 7.0))}
    else:
        yield {"filled": (sharded.weight, plain.weight)}
        assert not any(refused)


# Parts of a parameter


def _temporary(weight):
    for part in weight.split(5):
        temporary = torch.empty_like(part)
        nn.init.xavier_uniform_(temporary)
        part.copy_(temporary)


def _temporary_whole(weight):
    temporary = torch.empty_like(weight)
    for part in temporary.chunk(3):
        nn.init.xavier_normal_(part)
    weight.copy_(temporary)


def _concatenated(weight):
    weight.copy_(torch.cat([nn.init.xavier_uniform_(torch.empty_like(part)) for part in weight.chunk(3)]))


def _experts(weight):
    for expert in range(weight.shape[0]):
        nn.init.kaiming_uniform_(weight[expert].view(-1, 2), a=math.sqrt(5))


def _nested(weight):
    for part in weight.unflatten(0, (2, -1)).unbind(0):
        for half in part.transpose(0, 1).tensor_split(2, dim=1):
            nn.init.xavier_normal_(half[..., 1:])
            half[..., 0].zero_()


def _methods(weight):
    for part in weight.data.unbind():
        part.normal_(0, 0.02)


def _items(weight):
    weight[:] = 1.0
    weight[1:3] = torch.randn(2, *weight.shape[1:])
    weight[-1, 0] = 5.0
    weight[..., 1:2] = weight[..., :1]
    weight[torch.arange(weight.shape[0]) % 2 == 0] = -2.0


def _arithmetic(weight):
    nn.init.normal_(weight)
    weight[0] *= 2.0
    weight[1:].add_(0.5).clamp_(max=1.0)
    weight.view(-1)[3:].sub_(torch.full((weight.numel() - 3,), 0.25))
    weight[:, 1].neg_()
    weight.narrow(0, 0, 2).div_(3.0)


def _read(weight):
    nn.init.normal_(weight)
    weight[0].div_(weight[0].norm())
    weight[1].copy_(weight[0])
    weight[2:].add_(weight[2:].mean())
    assert weight[0].shape == weight.shape[1:]
    assert "tensor(" in repr(weight[0])


def _by_torch(weight):
    nn.init.normal_(weight[0], 0.5, 0.0)
    weight[1].exponential_()
    weight[2:4].bernoulli_(0.5)
    weight[4:].fill_(2.0).mul_(torch.tensor(3.0)).exp_()
    weight.view(-1)[::3].random_(0, 10)


def _by_lists(weight):
    nn.init.normal_(weight)
    torch._foreach_mul_(list(weight.chunk(3)), 0.5)
    torch.add(weight[0], 1.0, out=weight[1])


def _set_data(weight):
    weight.data = nn.init.xavier_uniform_(torch.empty_like(weight))


def _set_data_of_all(weight):
    weight.data = torch.arange(float(weight.numel())).view(weight.shape)


def _each(fill, cut):
    def way(weight):
        for part in cut(weight):
            fill(part)

    return way


WAYS = {
    "chunk": _each(nn.init.xavier_uniform_, lambda w: w.chunk(3)),
    "torch.chunk": _each(nn.init.normal_, lambda w: torch.chunk(w, 3, dim=1)),
    "split": _each(init.xavier_uniform_, lambda w: w.split([2, 5, w.shape[0] - 7])),
    "narrow": _each(nn.init.kaiming_normal_, lambda w: [w.narrow(0, i, 1) for i in range(w.shape[0])]),
    "tensor_split": _each(nn.init.uniform_, lambda w: w.tensor_split((1, 4), dim=1)),
    "experts": _experts,
    "unbind": _each(nn.init.xavier_uniform_, lambda w: w.view(w.shape[0], -1, 1).unbind()),
    "iteration": _each(nn.init.normal_, lambda w: list(w)),
    "columns": _each(nn.init.normal_, lambda w: [w[:, ::2], w[:, 1::2]]),
    "steps": _each(nn.init.normal_, lambda w: [w[::2], w[1::2]]),
    "transpose": _each(nn.init.kaiming_uniform_, lambda w: w.transpose(0, 1).chunk(2)),
    "T": _each(nn.init.xavier_uniform_, lambda w: [w.flatten(1).T[:2], w.flatten(1).T[2:]]),
    "view": _each(nn.init.normal_, lambda w: [w.view(-1)]),
    "flatten": _each(nn.init.normal_, lambda w: w.flatten().split(7)),
    "unflatten": _each(nn.init.xavier_uniform_, lambda w: [w.view(w.shape[0], -1).unflatten(1, (-1, 3))]),
    "data": _each(nn.init.normal_, lambda w: w.data.chunk(2)),
    "detach": _each(nn.init.normal_, lambda w: w.detach().split(4)),
    "diagonal": _each(nn.init.normal_, lambda w: [w, w.diagonal()]),
    "orthogonal": _each(nn.init.orthogonal_, lambda w: w.chunk(3)),
    "orthogonal columns": _each(init.orthogonal_, lambda w: w.chunk(2, dim=1)),
    "orthogonal view": _each(nn.init.orthogonal_, lambda w: [w.view(6, -1)]),
    "sparse": _each(lambda t: nn.init.sparse_(t.flatten(1), 0.3), lambda w: w.chunk(2)),
    "trunc_normal": _each(functools.partial(nn.init.trunc_normal_, std=0.02), lambda w: w.chunk(3)),
    "eye": _each(lambda t: nn.init.eye_(t.flatten(1)), lambda w: w.chunk(3)),
    "constants": _each(lambda t: nn.init.constant_(t, 0.5), lambda w: w.chunk(3)),
    "ones": _each(nn.init.ones_, lambda w: list(w)),
    "nested": _nested,
    "methods": _methods,
    "items": _items,
    "arithmetic": _arithmetic,
    "read": _read,
    "by PyTorch": _by_torch,
    "lists": _by_lists,
    "set data": _set_data,
    "set data of all": _set_data_of_all,
    "temporary": _temporary,
    "temporary whole": _temporary_whole,
    "concatenated": _concatenated,
}
# These read what other processes hold, or PyTorch's own functions do.
COMMUNICATING = {"items", "read", "by PyTorch", "lists", "temporary whole", "concatenated"}
SHARDINGS = {1: ["S0"], 2: ["S0", "S1", "R"], 3: ["S0", "S1"], 4: ["S0", "S0 S0", "S0 S1", "S1 S0", "R S0"]}


class InParts(Weight):
    """Its weight is written to in parts."""

    def __init__(self, way, shape):
        super().__init__(*shape)
        self.way = way

    def reset_parameters(self):
        with torch.no_grad():
            self.way(self.weight)

    def forward(self, x):
        return x


def mesh_for(text):
    return mesh_of(2, 2) if " " in text else line()


# These divide a dimension into equal parts.
EVEN = {"nested", "orthogonal view", "unflatten", "unbind"}


@check(cases=[(name,) for name in WAYS])
def parts(name):
    shapes = [(12, 6), (8, 6, 3)] if name in EVEN else [(9, 6), (10, 3, 2)]
    for number, text in enumerate(SHARDINGS[dist.get_world_size()]):
        shape = shapes[number % 2]
        plain = InParts(WAYS[name], shape)
        reference = init.initialize(plain, SEED)
        sharded = place_all(on_meta(InParts, WAYS[name], shape), text, mesh_for(text))
        with contextlib.nullcontext() if name in COMMUNICATING else no_communication():
            report = init.initialize(sharded, SEED)
        assert report.uninitialized == ()
        assert report["weight"].initializer == reference["weight"].initializer
        yield {f"{shape}, {text}": (sharded.weight, plain.weight)}


@check()
def a_part_alone_does_not_initialize():
    for way in (lambda w: nn.init.ones_(w[:1]), lambda w: w.chunk(2)[1].normal_(), lambda w: w[0].zero_()):
        sharded = place_all(on_meta(InParts, way, (6, 3)), "S0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            report = init.initialize(sharded, SEED)
        assert report.uninitialized == ("weight",)
        assert sharded.weight.is_meta
        yield {}


@check((2, 4), cases=[(where,) for where in ("plain", "accelerate")])
def parts_outside_of_initialize_are_as_in_pytorch(where):
    tensor = place(torch.full((9, 4), 7.0), "S0")
    with init.accelerate() if where == "accelerate" else contextlib.nullcontext():
        for part, copied in ((tensor.chunk(3)[0], True), (tensor[:, 1:], False), (tensor.detach(), False)):
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                init.kaiming_uniform_(part)
            texts = [str(one.message) for one in seen if "is a copy" in str(one.message)]
            assert len(texts) == int(copied)
            if copied:
                yield {"unchanged": (tensor, torch.full((9, 4), 7.0))}
    assert bool((tensor.to_local() != 7).all())
    yield {}


# Functions

FUNCTIONS = {
    "uniform_": ((-1.0, 2.0), (7, 5)),
    "normal_": ((0.5, 2.0), (7, 5)),
    "trunc_normal_": ((0.1, 0.5, -0.7, 0.4), (7, 5)),
    "trunc_normal_tf_": ((0.1, 0.5), (7, 5)),
    "xavier_uniform_": ((1.5,), (7, 5, 3)),
    "xavier_normal_": ((1.5,), (7, 5)),
    "kaiming_uniform_": ((0.2,), (7, 5)),
    "kaiming_normal_": ((0.2, "fan_out"), (7, 5, 3)),
    "variance_scaling_": ((2.0, "fan_avg", "truncated_normal"), (7, 5)),
    "lecun_normal_": ((), (7, 5)),
    "orthogonal_": ((0.5,), (7, 5)),
    "sparse_": ((0.3, 0.1), (7, 5)),
}


def drawn_pairs(fill, shape, text, dtype=torch.float32, mesh=None):
    """What a function does to a DTensor beside what it does to a plain tensor, and what to the generator."""
    torch.manual_seed(SEED)
    plain = fill(torch.full(shape, 7.0, dtype=dtype))
    after = torch.get_rng_state()
    sharded = place(torch.full(shape, 7.0, dtype=dtype), text, mesh)
    version = sharded._version
    torch.manual_seed(SEED)
    with no_communication():
        result = fill(sharded)
    assert result is sharded
    assert sharded._version > version or sharded.device_mesh.get_coordinate() is None
    where = f"{shape}, {text}, {dtype}"
    return {
        f"values of {where}": (sharded, plain),
        f"generator after {where}": (torch.get_rng_state(), after),
    }


@check(cases=[(name,) for name in FUNCTIONS])
def functions(name):
    arguments, (rows, *others) = FUNCTIONS[name]
    fill = getattr(init, name)
    for size, text in itertools.product((rows, 33, 2, 1), ("S0", "S1", "R")):
        yield drawn_pairs(lambda tensor: fill(tensor, *arguments), (size, *others), text)
    yield drawn_pairs(lambda tensor: fill(tensor, *arguments), (rows, *others), "S0", torch.bfloat16)

    def by_generator(tensor):
        return fill(tensor, *arguments, generator=torch.Generator().manual_seed(3))

    yield drawn_pairs(by_generator, (rows, *others), "S0")


@check(cases=[(name,) for name in FUNCTIONS])
def functions_under_accelerate(name):
    arguments, (rows, *others) = FUNCTIONS[name]
    theirs = getattr(nn.init, name, None)
    for size, text in itertools.product((rows, 2), ("S0", "S1")):
        with init.accelerate():
            yield drawn_pairs(lambda t: getattr(init, name)(t, *arguments), (size, *others), text)
            if theirs is not None:
                pairs = drawn_pairs(lambda t: theirs(t, *arguments), (size, *others), text)
                yield pairs
                torch.manual_seed(SEED)
                ours = getattr(init, name)(torch.empty(size, *others), *arguments)
                yield {"as ours": (next(iter(pairs.values()))[0], ours)}


@check()
def methods_under_accelerate():
    for rows, text in itertools.product((33, 7, 2), ("S0", "S1", "R")):
        with init.accelerate():
            pairs = drawn_pairs(lambda t: t.normal_(0.5, std=2.0), (rows, 5), text)
            yield pairs
            torch.manual_seed(SEED)
            yield {"as ours": (next(iter(pairs.values()))[0], init.normal_(torch.empty(rows, 5), 0.5, 2.0))}
            yield drawn_pairs(lambda t: t.uniform_(-1.0, to=3.0), (rows, 5), text)
            yield drawn_pairs(lambda t: t.copy_(torch.randn_like(t)), (rows, 5), text)
            yield drawn_pairs(lambda t: t.copy_(torch.rand_like(t)), (rows, 5), text)


@check(cases=[("uniform_",), ("normal_",), ("kaiming_uniform_",), ("orthogonal_",)])
def functions_under_a_default_device(name):
    # Such a context is asked about each function of PyTorch, as all modes are.
    arguments, shape = FUNCTIONS[name]
    with torch.device("cpu"):
        yield drawn_pairs(lambda tensor: getattr(init, name)(tensor, *arguments), shape, "S0")


@check(cases=[("cpu",), ("meta",)])
def initialize_under_a_default_device(device):
    sharded = on_meta(model)
    dist.fsdp.fully_shard(sharded, mesh=line())
    with torch.device(device):
        initialize(sharded)
    yield pairs_of(sharded, expected_model())


@check()
def initialize_in_inference_mode():
    sharded = on_meta(model)
    dist.fsdp.fully_shard(sharded, mesh=line())
    with torch.inference_mode():
        initialize(sharded)
    yield pairs_of(sharded, expected_model())


@check()
def parameters_keep_their_gradients():
    parameter = nn.Parameter(place(torch.zeros(7, 5), "S0"))
    parameter.sum().backward()
    grad = parameter.grad
    init.normal_(parameter)
    assert parameter.grad is grad
    assert parameter.requires_grad
    assert parameter.is_leaf
    yield {}


@check(cases=[("S0",), ("S1",)])
def dirac(text):
    for shape, groups in (((8, 4, 3), 1), ((6, 2, 3, 4), 3), ((2, 5, 3), 2)):
        yield drawn_pairs(lambda tensor, groups=groups: init.dirac_(tensor, groups), shape, text)
    plain, sharded = nn.Conv1d(4, 8, 3), place_all(nn.Conv1d(4, 8, 3), text)
    for each in (plain, sharded):
        init.initialize(each, SEED, {"weight": init.dirac_})
    yield pairs_of(sharded, plain)


# Parameters that fastinit does not take, and so leaves to PyTorch.
LAWLESS = {
    "normal_": (lambda tensor: init.normal_(tensor, 2.0, 0.0), (5, 3)),
    "xavier_uniform_": (lambda tensor: init.xavier_uniform_(tensor, 0.0), (5, 3)),
}


@check(cases=[(name,) for name in LAWLESS])
def generators_agree_where_pytorch_does_it(name):
    fill, shape = LAWLESS[name]
    tensor = place(torch.zeros(shape), "S0")
    torch.manual_seed(SEED)
    fill(tensor)
    yield {}
    states = [None] * dist.get_world_size()
    dist.all_gather_object(states, torch.get_rng_state())
    yield {f"generator of rank {rank}": (state, states[0]) for rank, state in enumerate(states)}


WRONG = {
    "normal_": lambda tensor: init.normal_(tensor, 0.0, -1.0),
    "uniform_": lambda tensor: init.uniform_(tensor, 1.0, -1.0),
    "trunc_normal_ bounds": lambda tensor: init.trunc_normal_(tensor, 0.0, 1.0, 1.0, -1.0),
    "trunc_normal_ std": lambda tensor: init.trunc_normal_(tensor, 0.0, 0.0),
    "sparse_ std": lambda tensor: init.sparse_(tensor, 0.3, -1.0),
}


@check(cases=[(name,) for name in WRONG])
def errors_are_raised_by_all_processes(name):
    # On 4 processes one of the shards is empty, on 3 none is.
    tensor = place(torch.full((5, 3), 7.0), "S0")
    assert all(raised := raises(lambda: WRONG[name](tensor))), raised
    yield {"unchanged": (tensor, torch.full((5, 3), 7.0))}


@check()
def processes_agree_where_pytorch_raises():
    tensor = place(torch.full((5, 3), 7.0), "S0")
    raised = raises(lambda: init.sparse_(tensor, 1.5))
    assert len(set(raised)) == 1, raised
    yield {}


# Partial placements


def partial():
    local = torch.full((5, 3), 7.0)
    return dist.tensor.DTensor.from_local(local, line(), [dist.tensor.Partial()])


@check(cases=[(name,) for name in ("normal_", "uniform_", "trunc_normal_", "kaiming_normal_", "eye_")])
def partial_tensors_are_refused(name):
    tensor = partial()
    assert all(raises(lambda: getattr(init, name)(tensor)))
    yield {"unchanged": (tensor.to_local(), torch.full((5, 3), 7.0))}
    with init.accelerate():
        assert all(raises(lambda: getattr(init, name)(tensor)))
    yield {"unchanged under accelerate": (tensor.to_local(), torch.full((5, 3), 7.0))}


PARTIAL = {"none": None, "function": {"weight": init.normal_}, "initializer": {"weight": "he_normal"}}


@check(cases=itertools.product(PARTIAL, ("whole", "blocks")))
def partial_parameters_are_refused(rules, way):
    module = nn.Linear(3, 5)
    module.weight = nn.Parameter(partial())
    sizes = {"weight": [2, 3]} if way == "blocks" else None
    assert all(raises(lambda: init.initialize(module, SEED, PARTIAL[rules], blocks=sizes)))
    yield {"unchanged": (module.weight.to_local(), torch.full((5, 3), 7.0))}


# Communication


@check(cases=[("first",), ("last",)])
def one_process_alone(which):
    sharded = on_meta(model)
    dist.fsdp.fully_shard(sharded, mesh=line())
    tensor = place(torch.zeros(7, 5), "S0")
    if dist.get_rank() == (0 if which == "first" else dist.get_world_size() - 1):
        # The others are waiting elsewhere.
        initialize(sharded)
        init.orthogonal_(tensor)
    yield {}
    if dist.get_rank() != (0 if which == "first" else dist.get_world_size() - 1):
        initialize(sharded)
    yield pairs_of(sharded, expected_model())


@check()
def no_state_of_a_process_counts():
    sharded = on_meta(model)
    dist.fsdp.fully_shard(sharded, mesh=line())
    torch.manual_seed(1000 + dist.get_rank())
    torch.randn(dist.get_rank() + 1)
    before = torch.get_rng_state()
    initialize(sharded)
    yield {"generator": (torch.get_rng_state(), before)}
    yield pairs_of(sharded, expected_model())


# Memory


def status(name):
    """A line of what the system says of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def peak(function):
    """The memory in use at the worst moment of a call, over what was in use before."""
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    function()
    return status("VmHWM") - before


class Normal(Weight):
    def reset_parameters(self):
        nn.init.normal_(self.weight)

    def forward(self, x):
        return x


# Each has 256 MiB.
LARGE = {"matrix": (8192, 8192), "tall": (2**24, 4), "vector": (2**26,)}
MARGIN = 2**24


def assert_peak(sharded, *, from_meta=True):
    share = sum(value.to_local().nbytes for value in sharded.parameters())
    assert share == 2**28 // dist.get_world_size()
    found = peak(lambda: init.initialize(sharded, SEED))
    assert not any(value.is_meta for value in sharded.parameters())
    new = share if from_meta else 0
    assert abs(found - new) < MARGIN, f"a shard of {share >> 20} MiB took {found >> 20} MiB"


if sys.platform == "linux":

    @check((2, 4), cases=[(name,) for name in LARGE])
    def memory_of_fsdp(name):
        sharded = on_meta(Normal, *LARGE[name])
        dist.fsdp.fully_shard(sharded, mesh=line())
        assert_peak(sharded)
        yield {}

    @check((4,))
    def memory_of_fsdp_and_tensor_parallel():
        sharded = on_meta(nn.Linear, 8192, 8192, False)
        mesh = dist.tensor.init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))
        plan = dist.tensor.parallel.ColwiseParallel()
        dist.tensor.parallel.parallelize_module(sharded, mesh["tensor"], plan)
        dist.fsdp.fully_shard(sharded, mesh=mesh["data"])
        assert_peak(sharded)
        yield {}

    @check((2, 4))
    def memory_of_a_shard_that_is_not_contiguous():
        world = dist.get_world_size()
        local = torch.ones(8192, 8192 // world).T
        sharded = Normal(1)
        sharded.weight = nn.Parameter(dist.tensor.DTensor.from_local(local, line(), placements("S0")))
        assert_peak(sharded, from_meta=False)
        yield {}


if __name__ == "__main__":
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    main(int(sys.argv[1]), Path(sys.argv[2]))
