"""The pictures: what is in them, what they are saved as, and what cannot be drawn."""

import io
import itertools
import math
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

import fastinit
from fastinit import show
from fastinit.theory.distributions import marchenko_pastur

matplotlib = pytest.importorskip("matplotlib")
pytest.importorskip("matplotlib.image")
SVG = "{http://www.w3.org/2000/svg}"


def bars(axes):
    """The heights and edges of a histogram."""
    (patch,) = axes.patches
    return patch.get_data().values, patch.get_data().edges


def curve(axes):
    """The density: the longest line."""
    return max((line.get_xydata() for line in axes.lines), key=len).T


def texts(axes):
    return [text.get_text() for text in axes.texts]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize("name", ["he_normal", "random_normal", "glorot_uniform", "orthogonal"])
def test_a_histogram_of_the_sample_over_its_density(name):
    figure = show(name, (128, 200), seed=3)
    (axes,) = figure.axes
    made = fastinit.get(name)((128, 200), seed=3)
    heights, edges = bars(axes)
    np.testing.assert_allclose((heights * np.diff(edges)).sum(), 1.0)
    np.testing.assert_allclose(heights, np.histogram(made, edges, density=True)[0], rtol=1e-3, atol=1e-3)
    x, y = curve(axes)
    expected = fastinit.get(name).check((128, 200))
    np.testing.assert_allclose(y, expected.density(x))
    assert x[0] <= made.min()
    assert x[-1] >= made.max()
    # The bars are near the curve, by the noise of as many elements as there are in a bar.
    middle = expected.density((edges[1:] + edges[:-1]) / 2)
    noise = np.sqrt(middle / (made.size * np.diff(edges)))
    assert (abs(heights - middle) < 6 * noise + 0.06 * middle.max())[2:-2].all()
    assert axes.get_title() == name
    assert axes.get_xlabel() == "weight value"
    assert axes.get_ylabel() == "density"
    assert "fan in 128, fan out 200" in texts(axes)[0]
    assert f"std {expected.std:.4g}, of the sample {made.std(dtype=float):.4g}" in texts(axes)[0]
    assert figure.get_suptitle() == "Weights of shape 128 x 200"
    assert legend(figure) == ["sample", "exact density"]


def test_several_share_their_axes():
    initializers = {"small": fastinit.RandomNormal(stddev=0.1), "large": fastinit.RandomNormal(stddev=0.4)}
    figure = show(initializers, (50, 60))
    small, large = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["small", "large"]
    assert small.get_xlim() == large.get_xlim()
    assert small.get_ylim() == large.get_ylim()
    assert small.get_ylim()[1] > bars(small)[0].max() > bars(large)[0].max()


def test_none_is_hidden_by_axes_of_others(tmp_path):
    kinds = {
        "small": fastinit.RandomNormal(stddev=0.001),
        "large": fastinit.RandomNormal(stddev=1.0),
        "zeros": "zeros",
        "sparse": fastinit.Sparse(0.7),
    }
    small, large, zeros, sparse = show(kinds, (50, 60), path=tmp_path / "x.png").axes
    for axes in (small, large, sparse):
        heights, edges = bars(axes)
        assert 0.5 < heights.max() / axes.get_ylim()[1] < 1.0
        assert np.ptp(edges) > 0.5 * np.ptp(axes.get_xlim())
    low, high = zeros.get_xlim()
    assert low <= -1.0 < 1.0 <= high
    # Equal widths, but densities of different height.
    labels = ["density", "density", "share of the weight values", "density"]
    assert [axes.get_ylabel() for axes in (small, large, zeros, sparse)] == labels
    tall, flat = show({"tall": np.r_[np.zeros(9999), 1.0], "flat": np.linspace(0, 1, 10**4)}).axes
    assert tall.get_ylim() != flat.get_ylim()
    assert [axes.get_ylabel() for axes in (tall, flat)] == ["density", ""]


def test_numbers_of_an_axis_do_not_touch():
    from matplotlib.backends import backend_agg

    for scale in (1e-3, 1.0, 123.4):
        normals = {str(i): fastinit.RandomNormal(stddev=scale * 0.03**i) for i in range(2)}
        figure = show({**normals, "zeros": "zeros", "same": fastinit.Constant(scale)}, (50, 50))
        backend_agg.FigureCanvasAgg(figure).draw()
        for axes in figure.axes:
            boxes = [text.get_window_extent() for text in axes.get_xticklabels() if text.get_text()]
            assert len(boxes) > 2
            assert min(other.x0 - one.x1 for one, other in itertools.pairwise(boxes)) > 12.0  # two digits


def contrast(one, other):
    """The contrast of two colours, as the guidelines for web content define it (WCAG 2.2, 1.4.3)."""

    def luminance(color):
        parts = np.array(matplotlib.colors.to_rgb(color))
        parts = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return parts @ [0.2126, 0.7152, 0.0722]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_text_and_lines_can_be_seen():
    from fastinit.guidance.show import pictures

    figure = show(["he_normal", "zeros"])
    ground = figure.get_facecolor()
    assert ground[3] == 1.0
    words = figure.findobj(matplotlib.text.Text)
    assert len(words) > 10
    assert min(contrast(text.get_color(), ground) for text in words) >= 4.5
    assert min(contrast(color, ground) for color in (*pictures.COLORS, pictures.CURVE)) >= 3
    looks = list(itertools.islice(pictures._looks(), 24))
    assert len({str(look) for look in looks}) == 24


NAMES = {
    "a call": ["recommended: VarianceScaling(scale=2.536, mode='fan_avg', distribution='uniform')", "a", "b"],
    "long ones": [f"a very long label of an initializer {i} " * 4 for i in range(7)],
    "one word": ["w" * 300, "x"],
    "many": [f"he_normal_{i}" for i in range(20)],
}


@pytest.mark.parametrize("names", NAMES)
def test_no_text_is_clipped(names):
    from matplotlib.backends import backend_agg

    gone = {"zero_slope": 1.0, "saturated": 0.5}
    runs = [Run(name, 1e-4 ** np.arange(10.0), **gone) for name in NAMES[names]]
    for figure in (show(signal(*runs)), show(dict.fromkeys(NAMES[names], "he_normal"), (30, 20))):
        backend_agg.FigureCanvasAgg(figure).draw()
        words = [*figure.texts, *figure.legends[0].get_texts()]
        for axes in figure.axes:
            words += [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
        for text in words:
            box = text.get_window_extent()
            assert box.x0 >= -1.0, text.get_text()
            assert box.x1 <= figure.bbox.width + 1.0, text.get_text()
        titles = [axes.title.get_window_extent() for axes in figure.axes if axes.get_title()]
        for one, other in itertools.combinations(titles, 2):
            assert not one.overlaps(other)


def test_names_of_objects_say_what_differs():
    figure = show([fastinit.RandomNormal(stddev=0.5), fastinit.HeNormal()])
    assert [axes.get_title() for axes in figure.axes] == ["RandomNormal(stddev=0.5)", "HeNormal"]
    assert (
        show({"class_name": "Constant", "config": {"value": 2.0}}).axes[0].get_title() == "Constant(value=2)"
    )


@pytest.mark.parametrize(
    ("initializer", "fans"),
    [
        (fastinit.HeNormal(), "fan in 27, fan out 45"),
        (fastinit.HeNormal(in_axis=1, out_axis=0), "fan in 45, fan out 45"),
        (fastinit.HeNormal(batch_axis=(0, 1)), "fan in 3, fan out 5"),
        (fastinit.HeNormal(groups=5), "fan in 27, fan out 9"),
        (fastinit.RandomNormal(), "fan in 27, fan out 45"),
    ],
    ids=repr,
)
def test_fans(initializer, fans):
    assert fans in texts(show(initializer, (3, 3, 3, 5)).axes[0])[0]
    if not isinstance(initializer, fastinit.RandomNormal) and "fan in 45" not in fans:
        fan_in = int(fans.split()[2].strip(","))
        assert f"std {math.sqrt(2 / fan_in):.4g}" in texts(show(initializer, (3, 3, 3, 5)).axes[0])[0]


def test_seeds_of_initializers_come_first():
    own, other = fastinit.RandomNormal(seed=5), fastinit.RandomNormal()
    one, two = (bars(show(initializer, (50, 60), seed=5).axes[0])[0] for initializer in (own, other))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one, bars(show(own, (50, 60), seed=6).axes[0])[0])
    assert not np.array_equal(one, bars(show(other, (50, 60), seed=6).axes[0])[0])


def test_values_that_have_a_probability():
    figure = show(["zeros", fastinit.Sparse(0.75, 0.2), fastinit.Identity(0.5)], (40, 50))
    zeros, sparse, identity = figure.axes
    assert "100 % at 0" in texts(zeros)
    assert not zeros.patches
    assert "75 % at 0" in texts(sparse)
    heights, edges = bars(sparse)
    assert (heights * np.diff(edges)).sum() == pytest.approx(0.25)
    assert texts(identity)[1:] == ["98 % at 0", "2 % at 0.5"]
    stems = [line.get_ydata()[1] for line in identity.lines if len(line.get_xdata()) == 2]
    assert stems[0] / stems[1] == pytest.approx(49.0)
    assert legend(figure)[2:] == ["probability of a single value", "its share in the sample"]
    only = show(["zeros", "ones"], 5)
    assert only.axes[0].get_ylabel() == "share of the weight values"


def test_a_large_tensor_is_not_made_as_a_whole():
    figure = show(fastinit.HeNormal(), (2**24, 2**10))  # 64 GiB
    heights, edges = bars(figure.axes[0])
    assert (heights * np.diff(edges)).sum() == pytest.approx(1.0)
    assert f"std {math.sqrt(2) / 2**12:.4g}" in texts(figure.axes[0])[0]


def test_arrays():
    rng = np.random.default_rng(0)
    first, second = rng.normal(1.0, 2.0, (30, 40)), rng.normal(size=100).astype(np.float16)
    first[3, 5] = np.nan
    figure = show([first, second])
    assert [axes.get_title() for axes in figure.axes] == ["array 1", "array 2"]
    rest = first[np.isfinite(first)]
    assert texts(figure.axes[0])[0].split("\n") == [
        "30 x 40",
        f"mean {rest.mean():.3g}, std {rest.std():.4g}",
        "1 of 1,200 not finite",
    ]
    x, y = curve(figure.axes[0])
    np.testing.assert_allclose(x[y.argmax()], rest.mean(), atol=0.05)
    np.testing.assert_allclose(y.max(), 1 / (rest.std() * math.sqrt(2 * math.pi)), rtol=1e-3)
    assert figure.get_suptitle() == "Weights"
    assert "100 % at 2" in texts(show(np.full((3, 4), 2.0)).axes[0])


def test_tensors_on_the_meta_device_have_no_elements():
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match="meta device"):
        show(torch.empty(3, device="meta"))


def test_tensors_of_pytorch():
    torch = pytest.importorskip("torch")
    layer = torch.nn.Linear(30, 20, dtype=torch.bfloat16)
    figure = show(layer.state_dict())
    assert [axes.get_title() for axes in figure.axes] == ["weight", "bias"]
    heights, edges = bars(show(layer.weight).axes[0])
    weight = layer.weight.detach().double().numpy()
    np.testing.assert_allclose(heights, np.histogram(weight, edges, density=True)[0])


@pytest.mark.parametrize("kind", ["histogram", "singular_values"])
def test_arrays_that_are_constant_but_for_rounding(kind, tmp_path):
    nearly = np.full((5, 6), 0.1, np.float32)
    nearly[0, 0] = np.nextafter(nearly[0, 0], np.float32(1))
    for array in (np.full((5, 6), 0.1), nearly, np.zeros((5, 6))):
        figure = show(array, kind=kind, path=tmp_path / "constant.png")
        assert "probability of a single value" in legend(figure)


def test_names_are_shown_literally(tmp_path):
    names = [r"$\frac$", "_hidden", "a_b^c"]
    figure = show(dict.fromkeys(names, "he_normal"), path=tmp_path / "names.png")
    assert [axes.get_title() for axes in figure.axes] == [r"\$\frac\$", *names[1:]]
    figure = show(signal(*(Run(name, np.ones(10)) for name in names)), path=tmp_path / "runs.png")
    assert legend(figure) == [r"\$\frac\$", *names[1:]]


def test_singular_values():
    shape = (300, 100)
    figure = show(["lecun_normal", "orthogonal"], shape, kind="singular_values", seed=1)
    normal, orthogonal = figure.axes
    made = np.linalg.svd(fastinit.lecun_normal(shape, seed=1).astype(float), compute_uv=False)
    heights, edges = bars(normal)
    np.testing.assert_allclose(heights, np.histogram(made, edges, density=True)[0], rtol=1e-6)
    x, y = curve(normal)
    np.testing.assert_allclose(y, marchenko_pastur(300, 100, 300**-0.5).density(x), atol=1e-6)
    assert f"of the sample {made.min():.3g} to {made.max():.3g}" in texts(normal)[0]
    assert "100 % at 1" in texts(orthogonal)
    assert normal.get_xlabel() == "singular value"
    assert figure.get_suptitle() == "Singular values of weights of shape 300 x 100"
    array = show(fastinit.lecun_normal(shape, seed=1), kind="singular_values")
    np.testing.assert_allclose(bars(array.axes[0])[0].sum(), heights.sum(), rtol=0.2)
    assert legend(array)[1] == "limit for independent elements of the same mean and std"


def test_singular_values_that_are_zero_but_for_rounding():
    ones = np.ones((128, 64))
    for x in ("ones", ones, ones + np.arange(64)):
        text = "".join(texts(show(x, (128, 64), kind="singular_values").axes[0]))
        assert "of the sample 0 to" in text


def test_singular_values_of_blocks():
    (axes,) = show(fastinit.Orthogonal(blocks=4), (32, 128), kind="singular_values").axes
    assert "of each of 4 blocks" in texts(axes)[0]
    assert "100 % at 1" in texts(axes)
    dots = [line.get_ydata()[0] for line in axes.lines if line.get_marker() == "o"]
    assert dots == pytest.approx([1 / 1.08])


class Run:
    def __init__(self, name, forward, backward=None, zero_slope=0.0, saturated=0.0, distance=1.0):
        self.name = name
        self.activation_std = np.asarray(forward, float)
        self.preactivation_std = self.activation_std
        self.gradient_std = self.activation_std[::-1] if backward is None else np.asarray(backward, float)
        self.zero_slope = np.full(len(self.activation_std), zero_slope)
        self.saturated = np.full(len(self.activation_std), saturated)
        self.sample_distance = np.full(len(self.activation_std), distance)


def signal(*runs):
    return fastinit.guidance.Signal("relu", (64,) * 11, samples=64, seed=0, rows=runs)


def test_a_signal():
    depths = np.arange(10.0)
    figure = show(signal(Run("good", 1.0 + 0.01 * depths), Run("small", 0.5**depths)))
    forward, backward, distance = figure.axes  # No share is above 0.
    assert distance.get_ylabel() == "distance between samples\n(log scale)"
    assert figure.get_suptitle() == "Signal through 10 layers of 64 units, relu"
    assert forward.get_yscale() == backward.get_yscale() == "log"
    assert forward.get_xlabel() == "layer"
    assert forward.get_ylabel() == "standard deviation of the activations\n(log scale)"
    assert backward.get_ylabel() == "standard deviation of the gradients\n(log scale)"
    for axes, flip in ((forward, 1), (backward, -1)):
        for line, values in zip(axes.lines, (1.0 + 0.01 * depths, 0.5**depths), strict=True):
            np.testing.assert_array_equal(line.get_xdata(), 1 + depths)
            np.testing.assert_array_equal(line.get_ydata(), values[::flip])
            assert axes.get_ylim()[0] < values.min() < values.max() < axes.get_ylim()[1]
    assert legend(figure) == ["good", "small"]
    styles = {(line.get_color(), line.get_linestyle()) for line in forward.lines}
    assert len(styles) == 2


def test_a_signal_that_vanishes_or_explodes(tmp_path):
    depths = np.arange(10.0)
    runs = [
        Run("flat", np.ones(10)),
        Run("zeros", np.zeros(10), zero_slope=1.0),
        Run("explodes", [*(1e100 ** depths[:3]), *[np.inf] * 7], saturated=0.5),
        Run("vanishes", 1e-4**depths),
        Run("nan", [np.nan] * 10),
    ]
    figure = show(signal(*runs), path=tmp_path / "signal.png")
    forward, backward, distance, zero_slope, saturated = figure.axes
    assert distance.lines[0].get_ydata().tolist() == [1.0] * 10
    assert legend(figure)[5:] == [
        "vanishes: 0, or below the chart",
        "explodes: not finite, or above the chart",
    ]

    def marks(axes):
        return sorted(
            (line.get_marker(), *line.get_xdata()) for line in axes.lines if len(line.get_xdata()) == 1
        )

    assert marks(forward) == [("^", 1.0), ("^", 2.0), ("v", 1.0), ("v", 6.0)]
    # Backwards the signal goes the other way.
    assert marks(backward) == [("^", 1.0), ("^", 9.0), ("v", 1.0), ("v", 5.0)]
    assert zero_slope.lines[1].get_ydata().tolist() == [1.0] * 10
    assert saturated.lines[2].get_ydata().tolist() == [0.5] * 10
    assert forward.get_ylim()[0] < 1e-16 < 1e-10 < 1.0 < forward.get_ylim()[1] < 1e20
    gone = show(signal(Run("zeros", np.zeros(3))))
    assert gone.axes[0].get_ylim()[0] < 1.0 < gone.axes[0].get_ylim()[1]


def test_marks_stand_where_a_curve_leaves_the_chart():
    values = 10.0 ** np.arange(0, 26, 2.5)
    axes = show(signal(Run("large", values), Run("small", 1 / values))).axes[0]
    bottom, top = axes.get_ylim()
    marks = {line.get_marker(): line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 1}
    assert marks == {"^": 1 + np.argmax(values > top), "v": 1 + np.argmax(1 / values < bottom)}


def test_a_single_layer_can_be_seen():
    found = fastinit.signal("he_normal", depth=1, width=8)
    figure = show(found)
    assert figure.get_suptitle() == "Signal through 1 layer of 8 units, relu"
    assert str(found).startswith("standard deviations in 1 layer of relu, ")
    for axes in figure.axes:
        assert [(line.get_marker(), len(line.get_xdata())) for line in axes.lines] == [("o", 1)]
        assert axes.get_xticks().tolist() == [1]


@pytest.mark.parametrize("layers", [2, 3, 10, 50, 51, 1000])
def test_ticks_are_numbers_of_layers(layers):
    ticks = show(signal(Run("a", np.ones(layers)))).axes[0].get_xticks()
    assert len(ticks) >= 2
    assert all(tick == round(tick) and 1 <= tick <= layers for tick in ticks)


@pytest.mark.parametrize("suffix", ["png", "svg", "PNG"])
def test_files(tmp_path, suffix):
    first, second = tmp_path / f"first.{suffix}", tmp_path / f"second.{suffix}"
    before = {key: value for key, value in matplotlib.rcParams.copy().items() if key != "backend"}
    show(["he_normal", fastinit.Sparse(0.5)], (64, 32), path=first)
    with matplotlib.rc_context(
        {"font.size": 30, "axes.facecolor": "red", "svg.hashsalt": "x", "savefig.dpi": 30}
    ):
        show(["he_normal", fastinit.Sparse(0.5)], (64, 32), path=str(second))
    assert first.read_bytes() == second.read_bytes()
    assert before == {key: matplotlib.rcParams[key] for key in before}
    if suffix == "svg":
        root = ElementTree.fromstring(first.read_text(encoding="utf-8"))
        words = {"".join(text.itertext()) for text in root.iter(f"{SVG}text")}
        assert {"weight value", "density", "he_normal", "exact density", "Weights of shape 64 x 32"} <= words
        assert b"date" not in first.read_bytes()
    else:
        assert first.read_bytes().startswith(b"\x89PNG")
        image = matplotlib.image.imread(first, format="png")
        assert image[0, 0].tolist() == [1.0] * 4  # white, also on dark pages


def test_a_notebook_displays_it():
    figure = show("zeros", 3)
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert figure._repr_png_() == figure._repr_png_()


def test_a_figure_is_saved_by_its_user_too():
    buffer = io.BytesIO()
    show("he_normal", (30, 40)).savefig(buffer, format="svg")
    assert b"weight value" in buffer.getvalue() or b"<path" in buffer.getvalue()


def test_it_loads_little(python):
    program = """
    import sys
    import fastinit.guidance
    heavy = {"matplotlib", "torch", "keras", "sklearn", "scipy", "tensorflow", "jax"}
    assert not heavy & set(sys.modules)
    fastinit.show("he_normal", (3, 4))
    assert "matplotlib" in sys.modules
    assert not (heavy - {"matplotlib"}) & set(sys.modules)
    assert "matplotlib.pyplot" not in sys.modules
    """
    python(program)


def test_without_matplotlib(python):
    program = """
    import sys
    sys.modules["matplotlib"] = None
    from fastinit import show
    try:
        show("he_normal", (3, 4))
    except ImportError as error:
        print(error)
    """
    assert python(program) == 'pictures need matplotlib: pip install "fastinit-nn[plot]"\n'


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: show("he_normal", kind="histgram"), ValueError, "did you mean 'histogram'"),
        (lambda: show("he_normal", kind="singular"), ValueError, "did you mean 'singular_values'"),
        (lambda: show("he_normal", kind=["histogram"]), ValueError, "kind must be one of"),
        (lambda: show("he_norml"), ValueError, "unknown initializer 'he_norml'"),
        (lambda: show("he_normal", 3), ValueError, "out of range|axis"),
        (lambda: show("he_normal", (3, 0)), ValueError, "no elements"),
        (lambda: show("he_normal", "wide"), TypeError, r"shape\[0\] must be an int"),
        (lambda: show("random_normal", 3, kind="singular_values"), ValueError, "two dimensions or more"),
        (lambda: show(np.ones(3), kind="singular_values"), ValueError, r"array has the shape \(3,\)"),
        (lambda: show(np.full((2, 2), np.inf), kind="singular_values"), ValueError, "no finite elements"),
        (lambda: show(np.array([[1, np.inf]]), kind="singular_values"), ValueError, "not finite"),
        (lambda: show(np.array(["a"])), TypeError, "real numbers, got the dtype <U1"),
        (lambda: show(np.array([1j])), TypeError, "real numbers, got the dtype complex128"),
        (lambda: show(np.ones((0, 3))), ValueError, r"shape \(0, 3\) has no finite elements"),
        (lambda: show(3.5), TypeError, "got float: 3.5"),
        (lambda: show([]), ValueError, "got 0"),
        (lambda: show([np.ones(3)] * 25), ValueError, "1 to 24 initializers or arrays"),
        (lambda: show(["zeros", "zeros"]), ValueError, "zeros is given twice"),
        (lambda: show(np.array([1e300, 1.0])), ValueError, "at most 1e.150 in absolute value, got 1e.300"),
        (lambda: show(signal(Run("a", [1.0])), kind="histogram"), ValueError, "drawn as curves"),
        (
            lambda: show("zeros", path="picture.jpeg"),
            ValueError,
            ".png or .svg, got 'picture.jpeg'",
        ),
        (lambda: show("zeros", path="picture"), ValueError, ".png or .svg"),
        (
            lambda: show("zeros", path="no/such/folder/a.png"),
            FileNotFoundError,
            "the folder 'no/such/folder' .* does not exist",
        ),
    ],
)
def test_what_cannot_be_drawn(call, error, message):
    with pytest.raises(error, match=message):
        call()
