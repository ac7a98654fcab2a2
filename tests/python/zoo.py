"""Models of transformers and timm, made by fastinit and by the libraries alone, compared tensor by tensor.

`make zoo` runs this file for all of them, `test_zoo.py` runs a few. Each model is small, is built on the CPU
from its configuration, and is made in these ways:

* plain, with two seeds. What is equal in both is fixed; the rest is random;
* `accelerate`: built inside `fastinit.torch.accelerate`;
* `rules`, of transformers: built on the meta device, then `initialize(model, rules=model._init_weights)`;
* `initialize`: built on the meta device, then `initialize(model)`.

Memory is filled with NaN before it is used, so what nobody initializes is seen. A model that is NaN at first
may keep a parameter uninitialized if the report of `initialize` says so, and the functions of the library do
not initialize it either: `reset_parameters` of each module, then `initialize_weights` or `init_weights` of
the model. It may have other distributions if the report says that an initialization of its own was not run;
such models are counted. Buffers may stay on the meta device.

In each way the model must
have the same tensors with the same ties, equal fixed elements, and random elements of the same distribution:
by the test of Kolmogorov and Smirnov, also of absolute values; by mean and standard deviation; and by the
number of elements beyond the extremes of the others. Tensors whose names differ in numbers only are compared
one by one and together, since a tensor of a few elements says little. A test fails at p-values below 1e-10. A
run makes about 200,000 tests, so right distributions would fail in one run of 50,000, over random seeds. With
2,000 elements, standard deviations that differ by a sixth are told apart, with 16,000 or more by a twentieth.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import copy
import ctypes
import fnmatch
import functools
import inspect
import math
import multiprocessing
import os
import random
import re
import signal
import sys
import time
import warnings
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy import special

import fastinit
from fastinit.torch import accelerate, initialize

ALPHA = 1e-10
SCORE = special.ndtri(1 - ALPHA / 2)
LEAST = 8  # elements that a test needs
MOST = 2**14  # elements of a tensor, or of several, that are compared, spread over them
LIMIT = 300  # seconds for one model
SHOWN = 6  # tensors of a model

WAYS = {"transformers": ("accelerate", "rules", "initialize"), "timm": ("accelerate", "initialize")}
GOALS = {"transformers": 180, "timm": 130}  # the least number of models

# The one or two smallest models of each file of timm.
TIMM = """
cait_xxs24_224 cait_xxs24_384 coat_lite_tiny coat_tiny convit_small convit_tiny convmixer_1024_20_ks9_p14
convmixer_768_32 cpubone_nano cpubone_t0 crossvit_9_240 crossvit_tiny_240 cs3darknet_focus_s cs3darknet_s
csatv2 csatv2_21m cspnext_s cspnext_tiny davit_tiny deit_tiny_distilled_patch16_224 deit_tiny_patch16_224
densenet121 densenetblur121d dla46_c dla46x_c dpn48b dpn68 eca_botnext26ts_256 edgenext_x_small
edgenext_xx_small efficientformer_l1 efficientformer_l3 efficientformerv2_s0 efficientformerv2_s1
efficientvim_m1 efficientvim_m1_dist efficientvit_b0 efficientvit_b1 efficientvit_m0 efficientvit_m1
ese_vovnet19b_slim ese_vovnet19b_slim_dw eva02_tiny_patch14_224 fasternet_t0 fasternet_t1 fastvit_t12
fastvit_t8 focalnet_tiny_lrf focalnet_tiny_srf gcvit_xtiny gcvit_xxtiny ghostnet_050 ghostnetv3_050
gmixer_12_224 gmlp_ti16_224 halonet_h1 hardcorenas_a hardcorenas_b hgnetv2_b0 hgnetv2_b1
hiera_small_abswin_256 hiera_tiny_224 hrnet_w18_small hrnet_w18_small_v2 iformer_s iformer_t
inception_next_atto inception_next_tiny inception_resnet_v2 inception_v3 inception_v4 lcnet_035 lcnetv2_small
legacy_seresnet18 legacy_seresnext26_32x4d legacy_xception levit_128s levit_conv_128s lowformer_b0
lowformer_b1 mambaout_femto mobilenetv3_small_050 mobileone_s1 mobilevit_xxs mobilevitv2_050 mvitv2_small
mvitv2_tiny nest_tiny nest_tiny_jx nextvit_small nf_regnet_b0 pit_ti_224 pit_ti_distilled_224 poolformer_s12
poolformerv2_s12 pvt_v2_b0 pvt_v2_b1 rdnet_tiny regnetx_002 regnety_002 repghostnet_050 repghostnet_058
repvit_m0_9 repvit_m1 res2net50_14w_8s res2next50 resnest14d resnest26d resnet10t resnetv2_18 resnetv2_18d
rexnet_100 rexnetr_100 sam2_hiera_small sam2_hiera_tiny selecsls42 selecsls60 sequencer2d_m sequencer2d_s
shvit_s1 shvit_s2 skresnet18 skresnet34 starnet_s050 starnet_s100 swiftformer_s swiftformer_xs
swin_s3_tiny_224 swin_tiny_patch4_window7_224 swinv2_cr_tiny_224 swinv2_cr_tiny_384 swinv2_tiny_window16_256
swinv2_tiny_window8_256 test_byobnet test_coatnet test_convnext test_convnext3 test_efficientnet
test_efficientnet_gn test_mambaout test_maxvit test_nfnet test_resnet test_vit test_vit2 test_vit_relpos
tiny_vit_11m_224 tiny_vit_5m_224 tnt_s_legacy_patch16_224 tnt_s_patch16_224 tresnet_m twins_pcpvt_small
twins_svt_small visformer_tiny vit_srelpos_small_patch16_224 vit_tiny_patch16_dinov3_qkvb
vit_tiny_r_s16_p8_224 vit_tiny_r_s16_p8_384 vitamin_small_224 volo_d1_224 volo_d1_384 xception41 xception41p
xcit_nano_12_p8_224 xcit_nano_12_p8_384
"""


class Skipped(Exception):  # noqa: N818 - not an error
    """A model that cannot be made here, and why."""


# Small models


def names_of(library):
    """The names of all models of a library: types of configurations, or the list above."""
    if library == "timm":
        return TIMM.split()
    if library == "torchvision":
        from torchvision import models

        return [name for name in models.list_models() if not name.startswith("quantized")]
    if library == "keras":
        from keras import applications

        return sorted(name for name, value in vars(applications).items() if inspect.isfunction(value))
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return list(CONFIG_MAPPING_NAMES)


def builder(library, name):
    """A function that builds a model."""
    if library == "timm":
        import timm

        if not timm.is_model(name):
            raise Skipped("this version of timm does not have it")
        return functools.partial(timm.create_model, name)
    if library == "torchvision":
        from torchvision import models

        function = models.get_model_builder(name)
        lacks = [one for one in inspect.signature(function).parameters if one.startswith("weights")]
        return functools.partial(function, **dict.fromkeys(lacks))
    if library == "keras":
        from keras import applications

        return functools.partial(getattr(applications, name), weights=None)
    return _transformers_builder(name)


def _width(value, factor):
    return value // factor if value % factor == 0 and value >= 8 * factor else value


# What the sizes in a configuration become, by their names: the first pattern that is found decides.
_SIZES = [
    (r"vocab|num_embeddings$", lambda value, *_: min(value, 512)),
    (r"per_tok|top_?k$", lambda value, *_: min(value, 2)),
    (r"experts$", lambda value, *_: min(value, 8)),
    (r"^(n|topk)_group$|expert_group$", lambda *_: 1),
    (r"heads?(_(?!dim)|$)", lambda value, factor, _: value // factor if value % factor == 0 else value),
    (r"depths?$|layers?$|blocks?$|blocks_per_stage|repeats", lambda value, _, depth: min(value, depth)),
    (r"position", lambda value, *_: min(value, 128)),
    (r"patch|image|kernel|window|stride|chunk|context|input_size|num_|type_|bucket|codebook|dropout", None),
    (r"index|pool|frame|grid|token|crop|length|scale|ratio|act|tubelet|batch|merge|tile|_id|expan", None),
    (r"hidden|dim|width|channel|d_(model|ff|inner)|n_(embd|inner)|embed", lambda v, f, _: _width(v, f)),
    (r"rank|intermediate|ffn|inner|_size$|units|filters|feat", lambda v, f, _: _width(v, f)),
]
# Widths are divided by the first number; the second is the number of layers. The first that works is taken.
_SCALES = [(8, 2), (16, 2), (4, 2), (8, 4), (2, 2), (1, 2), (1, 4)]
_SMALL = 3_000_000
_LARGEST = 60_000_000
_LARGEST_DIAGNOSED = 150_000_000  # VGG has 140 million


def _shrink_value(name, value, factor, depth):
    if isinstance(value, list | tuple):
        return type(value)(_shrink_value(name, one, factor, 2) for one in value)
    if type(value) is int and value > 0:
        for pattern, change in _SIZES:
            if re.search(pattern, name):
                return value if change is None else max(1, change(value, factor, depth))
    return value


def _shrink(config, factor, depth):
    """Makes a configuration small, with those inside of it."""
    for name, value in list(vars(config).items()):
        if hasattr(value, "to_dict"):
            _shrink(value, factor, depth)
        elif type(value) in (int, list, tuple):
            # Not by its own `__setattr__`, which checks sizes against others that are still large.
            object.__setattr__(config, name, _shrink_value(name, value, factor, depth))
    vocabulary = getattr(config, "vocab_size", None)
    for name, value in list(vars(config).items()):
        if type(vocabulary) is int and type(value) is int and re.search(r"token_(id|index|idx)$", name):
            object.__setattr__(config, name, value % max(vocabulary, 1))
    return config


def _classes(kind):
    """The classes of models that have this class of configuration; those with a head come first."""
    from transformers.models.auto import modeling_auto

    mappings = sorted(name for name in vars(modeling_auto) if re.fullmatch(r"MODEL_FOR_\w+_MAPPING", name))
    first = ["MODEL_FOR_PRETRAINING_MAPPING", "MODEL_FOR_CAUSAL_LM_MAPPING"]
    for name in dict.fromkeys([*first, *mappings, "MODEL_MAPPING"]):
        mapping = getattr(modeling_auto, name, None)
        if mapping is not None and kind in mapping:
            found = mapping[kind]
            yield found[0] if isinstance(found, tuple) else found


def _transformers_builder(name):
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    kind = CONFIG_MAPPING[name]
    best, reason = None, "no automatic class has a model of it"
    for cls in list(_classes(kind))[:1] + list(_classes(kind))[-1:]:
        for factor, depth in _SCALES:
            try:
                config = _shrink(kind(), factor, depth)
                with torch.device("meta"):
                    model = cls(copy.deepcopy(config))
            except Exception as error:
                if best is None:
                    reason = f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
                continue
            size = sum(parameter.numel() for parameter in model.parameters())
            if best is None or size < best[0]:
                best = size, cls, config
            if size <= _SMALL:
                break
        if best is not None:
            break
    if best is None:
        raise Skipped(reason)
    size, cls, config = best
    if size > _LARGEST:
        raise Skipped(f"cannot be made small: {size:,} parameters")
    return lambda: cls(copy.deepcopy(config))


# Diagnosing


def alarms(library, name):
    """What `diagnose` finds in a model as its library makes it, and in its arrays by name.

    Returns:
        The findings that are worse than information, for both forms.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            build = builder(library, name)
            if library != "keras":
                size = sum(tensor.numel() for tensor in on_meta(build).parameters())
                if size > _LARGEST_DIAGNOSED:
                    raise Skipped(f"{size:,} parameters")
            seed(1)
            model = build()
        except Skipped:
            raise
        except Exception as error:
            raise Skipped(f"the library alone: {_text(error)}") from error
        if library == "keras":
            arrays = {weight.path: np.asarray(weight.value.detach()) for weight in model.weights}
        else:
            arrays = model.state_dict()
        return {
            form: [f for f in fastinit.diagnose(given).findings if f.severity != "info"]
            for form, given in (("model", model), ("arrays", arrays))
        }


# Comparing


@dataclass
class Outcome:
    """What was found for one model made in one way."""

    differences: dict[str, str] = field(default_factory=dict)  # by tensor
    notes: dict[str, str] = field(default_factory=dict)  # what is not wrong, or was said
    said: bool = False  # whether the report says that an initialization of the model's own was not run
    tensors: int = 0
    tests: int = 0


class State:
    """The tensors of a model by all their names, and which are tied."""

    def __init__(self, model):
        self.parameters = dict(model.named_parameters(remove_duplicate=False))
        self.all = {**self.parameters, **dict(model.named_buffers(remove_duplicate=False))}
        first = {}
        self.ties = {name: first.setdefault(id(value), name) for name, value in self.all.items()}


def compare(plain, again, other, outcome, may_lack=()):
    """Compares a model with two that the library alone has made; it may lack some tensors."""
    if list(plain.all) != list(other.all):
        outcome.differences["names"] = str(set(plain.all) ^ set(other.all) or "in another order")
        return
    pools = defaultdict(list)
    for name, value in other.all.items():
        if other.ties[name] != plain.ties[name]:
            outcome.differences[name] = f"tied to {other.ties[name]}, not to {plain.ties[name]}"
        if other.ties[name] != name:
            continue
        outcome.tensors += 1
        expected = plain.all[name].detach()
        is_lacking = value.is_meta or bool(torch.isnan(value).any())
        if is_lacking and name in may_lack:
            outcome.notes[name] = "not initialized, as the report says"
            continue
        if value.is_meta:
            found = outcome.differences if name in plain.parameters else outcome.notes
            found[name] = "left on the meta device"
            continue
        problem, pair = _compare_tensor(expected, again.all[name].detach(), value.detach(), outcome)
        if problem:
            outcome.differences[name] = problem
        elif pair is not None:
            pools[re.sub(r"\d+", "#", name), tuple(value.shape)].append(pair)
    for (name, _), pairs in pools.items():
        if len(pairs) > 1:
            # Modules may be copies of each other.
            sample, reference = (
                {some.tobytes(): some for some in part}.values() for part in zip(*pairs, strict=True)
            )
            sample, reference = (np.concatenate(list(part)) for part in (sample, reference))
            problem = different(thinned(sample), thinned(reference, 2 * MOST), outcome)
            if problem:
                outcome.differences[name] = f"{len(pairs)} tensors: {problem}"


def _compare_tensor(expected, again, value, outcome):
    """What is wrong with a tensor; and, if nothing is, its random elements and those of the library."""
    for attribute in ("shape", "dtype", "device"):
        if getattr(value, attribute) != getattr(expected, attribute):
            return f"{attribute} {getattr(value, attribute)}, not {getattr(expected, attribute)}", None
    if value.numel() == 0:
        return None, None
    if value.is_complex():
        expected, again, value = map(torch.view_as_real, (expected, again, value))
    value, expected, again = (array(tensor) for tensor in (value, expected, again))
    undefined = np.isnan(expected) | np.isnan(again)  # which the library does not initialize
    if np.isnan(value[~undefined]).any():
        return f"{np.isnan(value[~undefined]).mean():.1%} of it is not initialized", None
    fixed = (expected == again) & ~undefined
    # A few random elements may be equal by chance.
    if fixed.all() or fixed.sum() > 10 + 1e-3 * fixed.size:
        wrong = fixed & (value != expected)
        if wrong.sum() > (0 if fixed.all() else 10):
            place = np.flatnonzero(wrong)[0]
            return f"{wrong.sum()} fixed elements differ: {value[place]:.6g}, not {expected[place]:.6g}", None
    chosen = np.flatnonzero(~fixed & ~undefined)
    if chosen.size == 0:
        return None, None
    chosen = thinned(chosen)
    sample, reference = value[chosen], np.concatenate([expected[chosen], again[chosen]])
    return different(sample, reference, outcome), (sample, reference)


def thinned(values, most=MOST):
    return values[:: math.ceil(values.size / most)]


def array(tensor):
    return tensor.flatten().double().numpy()


def different(sample, reference, outcome):
    """How the distribution of a sample differs from that of a larger one; `None` if it does not."""
    n, m = sample.size, reference.size
    if n < LEAST:
        low, high = reference.min(), reference.max()
        margin = 100 * (high - low)  # Catches another magnitude only.
        if margin > 0 and (sample.max() > high + margin or sample.min() < low - margin):
            return f"{sample[:3]} is far from {reference[:3]}"
        return None
    outcome.tests += 1
    values = (
        f"mean {sample.mean():.4g}, std {sample.std():.4g}; not {reference.mean():.4g}, {reference.std():.4g}"
    )
    center = np.median(reference)
    for what, one, other in (
        ("values", sample, reference),
        ("absolute values", abs(sample - center), abs(reference - center)),
    ):
        p = ks(one, other)
        if p < ALPHA:
            return f"{what}, p = {p:.1g}: {values}"
    variances = [(some - some.mean()) ** 2 for some in (sample, reference)]
    error = math.hypot(sample.std() / n**0.5, reference.std() / m**0.5)
    if n > 100 and abs(sample.mean() - reference.mean()) > (SCORE + 0.5) * error:
        return f"means: {values}"
    error = math.hypot(variances[0].std() / n**0.5, variances[1].std() / m**0.5)
    if n > 1000 and abs(variances[0].mean() - variances[1].mean()) > (SCORE + 0.5) * error:
        return f"standard deviations: {values}"
    for sign in (1, -1):
        for one, other, share in ((sample, reference, n / (n + m)), (reference, sample, m / (n + m))):
            beyond = (sign * one > (sign * other).max()).sum()
            if share**beyond < ALPHA:  # the probability that so many extremes are all of one part
                return f"{beyond} elements beyond the extremes of the others: {values}"
    return None


def ks(one, other):
    """The p-value of the two-sample test of Kolmogorov and Smirnov."""
    one, other = np.sort(one), np.sort(other)
    both = np.concatenate([one, other])
    below = [np.searchsorted(some, both, side="right") / some.size for some in (one, other)]
    distance = np.abs(below[0] - below[1]).max()
    return special.kolmogorov(distance * math.sqrt(one.size * other.size / both.size))


# Making


@contextlib.contextmanager
def poisoned():
    """A context in which new memory is NaN until it is written to."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def seed(number):
    torch.manual_seed(number)
    random.seed(number)
    np.random.seed(number)


def on_meta(build):
    """The model on the meta device. One that cannot be built there is built on the CPU and made NaN."""
    try:
        with torch.device("meta"):
            return build()
    except Exception:
        model = build()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.is_floating_point():
                    parameter.fill_(math.nan)
        return model


class Made:
    """What fastinit has made: the ends of each tensor."""

    def __init__(self):
        self.ends = set()

    @contextlib.contextmanager
    def recorded(self):
        original, original_at = fastinit.Initializer.__call__, fastinit.Initializer._fill_at

        def call(initializer, *arguments, **keywords):
            result = original(initializer, *arguments, **keywords)
            self.ends |= {result.flat[:4].tobytes(), result.flat[-4:].tobytes()}
            return result

        def fill_at(initializer, address, shape, seed, stream, dtype, threads):
            original_at(initializer, address, shape, seed, stream, dtype, threads)
            size = np.dtype(dtype).itemsize
            few = size * min(4, math.prod(shape))
            last = address + size * math.prod(shape) - few
            self.ends |= {ctypes.string_at(address, few), ctypes.string_at(last, few)}

        fastinit.Initializer.__call__ = call
        fastinit.Initializer._fill_at = fill_at
        try:
            yield
        finally:
            fastinit.Initializer.__call__ = original
            fastinit.Initializer._fill_at = original_at

    def has(self, tensor, plain):
        """Whether fastinit made a tensor, unless it is small or equal to that of the library."""
        tensor, plain = tensor.detach().flatten(), plain.detach().flatten()
        if not tensor.is_floating_point() or tensor.numel() < LEAST or torch.equal(tensor, plain):
            return True
        return any(end.view(torch.uint8).numpy().tobytes() in self.ends for end in (tensor[:4], tensor[-4:]))


def make(way, build):
    """A model made in one of the ways, and its report."""
    if way == "accelerate":
        seed(3)
        with accelerate():
            return build(), None
    model = on_meta(build)
    return model, initialize(model, seed=4, rules=model._init_weights if way == "rules" else None)


def lacking(build):
    """The parameters that the functions of the library leave uninitialized in a model that is NaN."""
    model = build()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point():
                parameter.fill_(math.nan)
    for module in model.modules():
        vars(module).pop("_is_hf_initialized", None)
        for tensor in module.parameters(recurse=False):
            vars(tensor).pop("_is_hf_initialized", None)
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    function = getattr(model, "initialize_weights", getattr(model, "init_weights", None))
    if function is not None:
        with contextlib.suppress(TypeError):  # It needs arguments.
            function()
    parameters = model.named_parameters(remove_duplicate=False)
    return {name for name, parameter in parameters if torch.isnan(parameter).any()}


def examine(library, name, ways=None):
    """Makes a model in several ways, all by default, and compares it.

    Returns:
        An outcome for each way.
    """
    outcomes = {}
    with warnings.catch_warnings(), poisoned():
        warnings.simplefilter("ignore")
        plain = []
        try:
            build = builder(library, name)
            for number in (1, 2):
                seed(number)
                plain.append(State(build()))
        except Skipped:
            raise
        except Exception as error:
            raise Skipped(f"the library alone: {_text(error)}") from error
        for way in ways or WAYS[library]:
            outcomes[way] = outcome = Outcome()
            try:
                made = Made()
                with made.recorded():
                    model, report = make(way, build)
            except Exception as error:
                outcome.differences["raised"] = _text(error)
                continue
            state = State(model)
            left = () if report is None else report.uninitialized
            compare(*plain, state, outcome, lacking(build) & {*left} if left else ())
            if report is None:
                others = [name for name in state.all if not made.has(state.all[name], plain[0].all[name])]
                outcome.notes.update(dict.fromkeys(others, "not as fastinit made it"))
                continue
            outcome.said = bool(getattr(report, "not_run", ()))
            for tensor in {name for row in report.rows for name in row.names} & outcome.differences.keys():
                outcome.differences[tensor] += ", reported as filled"
    return outcomes


def _text(error):
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


# The command


def _examine(job, function=examine):
    def stop(*_):
        raise TimeoutError(f"more than {LIMIT} s")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT)
    torch.set_num_threads(1)
    try:
        return function(*job)
    except (Skipped, TimeoutError) as reason:
        return str(reason)
    finally:
        signal.alarm(0)


def _print(title, texts):
    for number, (tensor, text) in enumerate(texts.items()):
        if number == SHOWN:
            print(f"{title}: and {len(texts) - SHOWN} more", flush=True)
            break
        print(f"{title}: {tensor}: {text}", flush=True)


def _count_alarms(libraries, names):
    """Prints what `diagnose` finds in all models."""
    for library in libraries:
        counts = Counter()
        for name in names_of(library):
            if not any(fnmatch.fnmatch(name, pattern) for pattern in names):
                continue
            found = _examine((library, name), alarms)
            if isinstance(found, str):
                print(f"skipped: {library} {name}: {found}", flush=True)
                continue
            counts.update(models=1, **{form: int(bool(findings)) for form, findings in found.items()})
            for form, findings in found.items():
                texts = {f"{f.severity} {f.code} {f.tensor}": f.message for f in findings}
                _print(f"{library} {name}, {form}", texts)
        print(
            f"{library}: {counts['models']} models; diagnose finds something in {counts['model']} of them, "
            f"and in the arrays by name of {counts['arrays']}",
            flush=True,
        )
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", default=["*"], help="models, with wildcards; all by default")
    parser.add_argument(
        "--library", choices=(*WAYS, "torchvision", "keras"), action="append", help="only this one"
    )
    parser.add_argument("--way", choices=WAYS["transformers"], action="append", help="only this one")
    parser.add_argument("--notes", action="store_true", help="print also what is not a difference")
    parser.add_argument(
        "--diagnose", action="store_true", help="print what diagnose finds, also in torchvision and Keras"
    )
    options = parser.parse_args()
    if options.diagnose:
        os.environ.setdefault("KERAS_BACKEND", "torch")
        return _count_alarms(options.library or (*WAYS, "torchvision", "keras"), options.names)
    jobs = []
    for library in options.library or WAYS:
        ways = [way for way in WAYS[library] if way in (options.way or WAYS[library])]
        names = [one for one in names_of(library) if any(fnmatch.fnmatch(one, p) for p in options.names)]
        jobs += [(library, name, ways) for name in names]
    counts, skipped = defaultdict(Counter), []
    start = time.perf_counter()
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count(), context) as pool:
        for (library, name, _), found in zip(jobs, pool.map(_examine, jobs), strict=True):
            if isinstance(found, str):
                skipped.append(f"{library} {name}: {found}")
                continue
            for way, outcome in found.items():
                differs = "said" if outcome.said else "different"
                count = counts[library, way]
                count.update(models=1, tensors=outcome.tensors, tests=outcome.tests)
                count.update({differs: bool(outcome.differences)})
                if options.notes or not outcome.said:
                    _print(f"{differs}: {library} {name}, {way}", outcome.differences)
                if options.notes:
                    _print(f"note: {library} {name}, {way}", outcome.notes)
    print(f"\n{len(skipped)} models cannot be made:", *skipped, sep="\n  ")
    print(f"\n{time.perf_counter() - start:.0f} s")
    fails = False
    for (library, way), count in counts.items():
        print(
            f"{library}, {way}: {count['models']} models, {count['tensors']} tensors, {count['tests']} "
            f"tests; {count['different']} models differ, {count['said']} more differ and the report says so"
        )
        fails |= count["different"] > 0
        fails |= options.names == ["*"] and count["models"] < GOALS[library]
    return int(fails)


if __name__ == "__main__":
    sys.exit(main())
