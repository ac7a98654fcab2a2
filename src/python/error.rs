//! Errors as Python sees them.
#![forbid(unsafe_code)]

use crate::error::Error;
use pyo3::PyErr;
use pyo3::exceptions::{PyKeyboardInterrupt, PyMemoryError, PyOSError, PyValueError};

impl From<Error> for PyErr {
    fn from(error: Error) -> PyErr {
        let message = error.to_string();
        match error {
            Error::Memory { .. } | Error::MemoryLimit { .. } => PyMemoryError::new_err(message),
            Error::Entropy(_) => PyOSError::new_err(message),
            Error::Interrupted => PyKeyboardInterrupt::new_err(message),
            _ => PyValueError::new_err(message),
        }
    }
}
