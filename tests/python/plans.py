"""What the tests of plans share."""

import numpy as np

from fastinit._plan import is_float, numpy_dtype


def sampled(row, seed):
    """The tensor of a row of a plan, by the public functions alone."""
    dtype = numpy_dtype(row.dtype)
    runs = [np.empty(0, dtype)]
    for part in row.parts:
        if part.initializer is None:
            runs.append(np.frombuffer(part.data, dtype))
        else:
            # Initializers sample neither float8 nor ints; a plan rounds once.
            kind = row.dtype if is_float(row.dtype) and "float8" not in row.dtype else "float32"
            whole = part.initializer(part.shape, seed=seed, stream=part.stream, dtype=kind).reshape(-1)
            runs.append(whole[part.first : part.first + part.count].astype(dtype))
    return np.concatenate(runs).reshape(row.shape)
