"""Computes every polynomial coefficient in `src/math/`, and prints it as Rust.

    python tools/coefficients.py            (needs mpmath; takes about a minute)

Polynomials are minimax in relative error (Lawson's algorithm, in 40 digits). Coefficients are then rounded to the
working precision one by one, lowest order first, and those not yet rounded are fitted again, so that the rounding of one
is made good by the others. Rational functions are fitted at Chebyshev nodes by linear least squares, reweighted until the
denominator settles. The number printed beside each is the largest relative error before rounding in the evaluation.
"""

# ruff: noqa: E501 (one line for each table)

from __future__ import annotations

import struct
from collections.abc import Callable

import mpmath as mp

mp.mp.dps = 40
Function = Callable[[mp.mpf], mp.mpf]


def to_f32(x: mp.mpf) -> mp.mpf:
    """`x` rounded to binary32 (through binary64: the double rounding costs nothing here)."""
    return mp.mpf(struct.unpack("f", struct.pack("f", float(x)))[0])


def to_f64(x: mp.mpf) -> mp.mpf:
    """`x` rounded to binary64."""
    return mp.mpf(float(x))


def chebyshev(a: mp.mpf, b: mp.mpf, n: int) -> list[mp.mpf]:
    """`n` Chebyshev nodes of [a, b]."""
    return [(a + b) / 2 - (b - a) / 2 * mp.cos(mp.pi * (2 * i + 1) / (2 * n)) for i in range(n)]


def horner(coefficients: list[mp.mpf], x: mp.mpf) -> mp.mpf:
    """The polynomial with these coefficients, lowest order first."""
    return mp.polyval(coefficients[::-1], x)


def minimax(f: Function, nodes: list[mp.mpf], powers: list[int], scale: Function) -> list[mp.mpf]:
    """Coefficients of x**p for p in `powers` that nearly minimize the largest |(f(x) - sum) / scale(x)| at the nodes.

    Lawson's algorithm: least squares whose weights grow where the error is large. Unlike an exchange algorithm it does not
    mind a point where all the powers vanish.
    """
    values = [(x, f(x), 1 / abs(scale(x))) for x in nodes]
    lawson = [mp.mpf(1)] * len(nodes)
    best: list[mp.mpf] = []
    least = mp.inf
    for _ in range(40):
        matrix = mp.matrix(len(nodes), len(powers))
        right = mp.matrix(len(nodes), 1)
        for i, ((x, y, w), emphasis) in enumerate(zip(values, lawson, strict=True)):
            root = mp.sqrt(emphasis) * w
            for j, p in enumerate(powers):
                matrix[i, j] = root * x**p
            right[i] = root * y
        solution = mp.qr_solve(matrix, right)[0]
        coefficients = [solution[j] for j in range(len(powers))]
        errors = [
            abs(w * (y - sum(c * x**p for c, p in zip(coefficients, powers, strict=True))))
            for x, y, w in values
        ]
        if max(errors) < least:
            best, least = coefficients, max(errors)
        lawson = [emphasis * e for emphasis, e in zip(lawson, errors, strict=True)]
        total = sum(lawson)
        if total == 0:
            break
        lawson = [emphasis / total + mp.mpf(10) ** -12 for emphasis in lawson]
    return best


def rounded_minimax(
    f: Function,
    a: mp.mpf,
    b: mp.mpf,
    degree: int,
    rounding: Callable[[mp.mpf], mp.mpf],
    fixed: dict[int, float],
) -> tuple[list[mp.mpf], mp.mpf]:
    """A minimax polynomial of `f` on [a, b] with rounded coefficients, and its relative error."""
    done = {p: mp.mpf(c) for p, c in fixed.items()}
    nodes = chebyshev(a, b, 8 * (degree + 1))
    known = {x: f(x) for x in nodes}
    while len(done) <= degree:
        powers = [p for p in range(degree + 1) if p not in done]

        def rest(x: mp.mpf) -> mp.mpf:
            return known[x] - sum(c * x**p for p, c in done.items())

        done[powers[0]] = rounding(minimax(rest, nodes, powers, known.__getitem__)[0])
    coefficients = [done[p] for p in range(degree + 1)]
    return coefficients, max(abs(horner(coefficients, x) / f(x) - 1) for x in chebyshev(a, b, 300))


def polynomial(
    name: str,
    doc: str,
    f: Function,
    a: float | mp.mpf,
    b: float | mp.mpf,
    degree: int,
    rounding: Callable[[mp.mpf], mp.mpf],
    fixed: dict[int, float] | None = None,
) -> None:
    """Prints a minimax polynomial of `f` on [a, b]; `fixed` presets coefficients by their power."""
    coefficients, worst = rounded_minimax(f, mp.mpf(a), mp.mpf(b), degree, rounding, fixed or {})
    emit(name, doc, coefficients, worst, rounding)


def rational(
    name: str,
    doc: str,
    f: Function,
    a: float | mp.mpf,
    b: float | mp.mpf,
    degrees: tuple[int, int],
    rounding: Callable[[mp.mpf], mp.mpf] = to_f64,
) -> None:
    """Prints a near-minimax rational function of `f` on [a, b], the denominator's constant 1."""
    a, b = mp.mpf(a), mp.mpf(b)
    n, d = degrees
    nodes = [(x, f(x)) for x in chebyshev(a, b, 6 * (n + d + 1))]
    weights = [mp.mpf(1)] * len(nodes)
    numerator: list[mp.mpf] = []
    denominator: list[mp.mpf] = []
    for _ in range(12):
        matrix = mp.matrix(len(nodes), n + d + 1)
        right = mp.matrix(len(nodes), 1)
        for i, ((x, y), w) in enumerate(zip(nodes, weights, strict=True)):
            for j in range(n + 1):
                matrix[i, j] = w * x**j / y
            for j in range(1, d + 1):
                matrix[i, n + j] = -w * x**j
            right[i] = w
        solution = mp.qr_solve(matrix, right)[0]
        numerator = [solution[j] for j in range(n + 1)]
        denominator = [mp.mpf(1)] + [solution[n + j] for j in range(1, d + 1)]
        weights = [1 / abs(horner(denominator, x)) for x, _ in nodes]
    numerator = [rounding(c) for c in numerator]
    denominator = [rounding(c) for c in denominator]
    worst = max(abs(horner(numerator, x) / horner(denominator, x) / f(x) - 1) for x in chebyshev(a, b, 600))
    emit(name + "_P", doc + " Numerator.", numerator, worst, rounding)
    emit(name + "_Q", doc + " Denominator.", denominator, worst, rounding)


def shortest(x: mp.mpf, rounding: Callable[[mp.mpf], mp.mpf]) -> str:
    """The shortest decimal number that rounds to `x`, as a Rust literal."""
    for digits in range(17):
        text = f"{float(x):.{digits}e}"
        if rounding(mp.mpf(text)) == x:
            break
    return text


def emit(
    name: str, doc: str, coefficients: list[mp.mpf], worst: mp.mpf, rounding: Callable[[mp.mpf], mp.mpf]
) -> None:
    """Prints one table of coefficients."""
    kind = "f32" if rounding is to_f32 else "f64"
    print(f"/// {doc} Relative error {mp.nstr(worst, 2)}.")
    print(f"const {name}: [{kind}; {len(coefficients)}] = [")
    for c in coefficients:
        print(f"    {shortest(c, rounding)},")
    print("];\n")


def normal_quantile(p: mp.mpf) -> mp.mpf:
    """The x at which the upper tail of the standard normal is `p`; `p` may be tiny."""
    x = mp.sqrt(max(-2 * mp.log(p) - mp.log(max(-4 * mp.pi * mp.log(p), 1)), mp.mpf("0.01")))
    for _ in range(60):
        tail = mp.erfc(x / mp.sqrt(2)) / 2
        density = mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi)
        # Newton on the logarithm of the tail, which is nearly a parabola: converges from everywhere.
        step = mp.log(tail / p) * tail / density
        x += step
        if abs(step) < mp.mpf(10) ** -30 * max(abs(x), mp.mpf(10) ** -6):
            break
    return x


def erfinv_over(y: mp.mpf) -> mp.mpf:
    """The normal quantile x with P(|X| < x) = y, divided by y."""
    if y == 0:
        return mp.sqrt(mp.pi / 2)
    return normal_quantile((1 - y) / 2) / y


def of_w(w: mp.mpf) -> mp.mpf:
    """The same as a function of w = -ln(1 - y^2)."""
    if w == 0:
        return mp.sqrt(mp.pi / 2)
    q = mp.exp(-w)  # = 1 - y^2
    y = mp.sqrt(-mp.expm1(-w))
    return normal_quantile(q / (2 * (1 + y))) / y


def mills(x: mp.mpf) -> mp.mpf:
    """The area above x over the density at x."""
    return mp.erfc(x / mp.sqrt(2)) * mp.exp(x * x / 2) * mp.sqrt(mp.pi / 2)


def main() -> None:
    """Prints all tables."""
    third = mp.mpf(1) / 3
    polynomial(
        "LOG_F32", "`-2 ln(1 + f) / f` for f in [-1/3, 1/3].",
        lambda f: -2 * mp.log1p(f) / f if f else mp.mpf(-2), -third, third, 8, to_f32, {0: -2.0},
    )  # fmt: skip
    polynomial(
        "SIN_F32", "`sin(pi/4 y) / y` in powers of y^2, for y in [-1, 1].",
        lambda s: mp.sin(mp.pi / 4 * mp.sqrt(s)) / mp.sqrt(s) if s else mp.pi / 4, 0, 1, 3, to_f32,
    )  # fmt: skip
    polynomial(
        "COS_F32", "`cos(pi/4 y)` in powers of y^2, for y in [-1, 1].",
        lambda s: mp.cos(mp.pi / 4 * mp.sqrt(s)), 0, 1, 3, to_f32,
    )  # fmt: skip
    polynomial(
        "LOG_COARSE_F32", "`-ln(1 + f) / f` for f in [-1/3, 1/3].",
        lambda f: -mp.log1p(f) / f if f else mp.mpf(-1), -third, third, 7, to_f32,
    )  # fmt: skip
    rational(
        "QUANTILE_CENTRE_F32", "`x / y` in powers of 1 - y^2, where P(|X| < x) = y, for x in [0, 2].",
        lambda v: erfinv_over(mp.sqrt(abs(1 - v))), mp.mpf("0.9999") * (1 - mp.erf(mp.sqrt(2)) ** 2), 1, (4, 4), to_f32,
    )  # fmt: skip
    rational(
        "QUANTILE_TO_3_F32", "`x / y` in powers of 1 - y^2, where P(|X| < x) = y, for x in [0, 3].",
        lambda v: erfinv_over(mp.sqrt(abs(1 - v))), mp.mpf("0.9999") * (1 - mp.erf(3 / mp.sqrt(2)) ** 2), 1, (7, 7), to_f32,
    )  # fmt: skip
    polynomial(
        "QUANTILE_F32", "`x / y` in powers of w - 2.5, for w in [0, 5].",
        lambda v: of_w(v + mp.mpf("2.5")), -2.5, 2.5, 8, to_f32,
    )  # fmt: skip
    polynomial(
        "QUANTILE_TAIL_F32", "`x / y` in powers of sqrt(w) - 3.5, for w in [5, 21].",
        lambda v: of_w((v + mp.mpf("3.5")) ** 2), mp.sqrt(5) - 3.5, mp.sqrt(21) - 3.5, 10, to_f32,
    )  # fmt: skip
    rational(
        "QUANTILE_ANY_F32", "`x / y` in powers of w, for w in [0, 32].",
        of_w, 0, 32, (6, 6), to_f32,
    )  # fmt: skip
    edge = (mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)
    polynomial(
        "LOG_F64", "`(ln(1 + f) - 2 s) / s^3` in powers of s^2, where s = f / (2 + f), f in [1/sqrt 2 - 1, sqrt 2 - 1].",
        lambda z: (2 * mp.atanh(mp.sqrt(z)) / mp.sqrt(z) - 2) / z if z else mp.mpf(2) / 3,
        mp.mpf(10) ** -12, edge**2 * mp.mpf("1.0001"), 6, to_f64,
    )  # fmt: skip
    polynomial(
        "SIN_F64", "`sin(pi/4 y) / y` in powers of y^2, for y in [-1, 1].",
        lambda s: mp.sin(mp.pi / 4 * mp.sqrt(s)) / mp.sqrt(s) if s else mp.pi / 4, 0, 1, 6, to_f64,
    )  # fmt: skip
    polynomial(
        "COS_F64", "`cos(pi/4 y)` in powers of y^2, for y in [-1, 1].",
        lambda s: mp.cos(mp.pi / 4 * mp.sqrt(s)), 0, 1, 6, to_f64, {0: 1.0},
    )  # fmt: skip
    rational(
        "QUANTILE_CENTRE_F64", "`x / y` in powers of 0.7225 - y^2, for |y| up to 0.85.",
        lambda v: erfinv_over(mp.sqrt(abs(mp.mpf("0.7225") - v))), 0, mp.mpf("0.7225"), (7, 7),
    )  # fmt: skip
    rational(
        "QUANTILE_TO_2_F64", "`x / y` in powers of 1 - y^2, for x in [0, 2].",
        lambda v: erfinv_over(mp.sqrt(abs(1 - v))), mp.mpf("0.99999999") * (1 - mp.erf(mp.sqrt(2)) ** 2), 1, (10, 10),
    )  # fmt: skip
    rational(
        "AREA", "The area under the normal density between 0 and x, over x, in powers of x^2 - 2, for x in [0, 2].",
        lambda v: mp.erf(mp.sqrt((v + 2) / 2)) / 2 / mp.sqrt(v + 2), mp.mpf(-2) + mp.mpf(10) ** -20, 2, (7, 7),
    )  # fmt: skip
    rational(
        "MILLS", "Mills' ratio at x in powers of x - 4, for x in [2, 8].",
        lambda v: mills(v + 4), -2, 4, (7, 7),
    )  # fmt: skip
    near = mp.sqrt(-mp.log(mp.mpf("0.0751")))
    rational(
        "QUANTILE_TAIL_F64", "The upper quantile in powers of r - 1.6, where the tail is exp(-r^2), r in [1.6, 5].",
        lambda v: normal_quantile(mp.exp(-((v + mp.mpf("1.6")) ** 2))), near - mp.mpf("1.6"), mp.mpf("3.4"), (7, 7),
    )  # fmt: skip
    rational(
        "QUANTILE_FAR_F64", "The same in powers of r - 5, r in [5, 24].",
        lambda v: normal_quantile(mp.exp(-((v + 5) ** 2))), 0, 19, (7, 7),
    )  # fmt: skip


if __name__ == "__main__":
    main()
