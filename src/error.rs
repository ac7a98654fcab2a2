//! What can go wrong: one enum, each variant a mistake of the caller or a limit of the machine.
//!
//! Every message names the value and the rule it broke.

use std::fmt;

/// The result of everything here that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a request was refused or given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// A parameter has a value that it may not have; the text names both the value and the rule.
    Value(String),
    /// The memory for a result could not be had.
    Memory {
        /// How many bytes were asked for.
        bytes: usize,
    },
    /// The operating system gave no entropy for a seed.
    Entropy(String),
    /// The caller asked to stop; the output is partly written.
    Interrupted,
}

impl Error {
    /// An [`Error::Value`] of this message.
    pub(crate) fn value(message: impl Into<String>) -> Error {
        Error::Value(message.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Value(message) => f.write_str(message),
            Error::Memory { bytes } => write!(f, "cannot allocate {bytes} bytes for the result"),
            Error::Entropy(message) => {
                write!(f, "the operating system gave no entropy for a seed: {message}")
            }
            Error::Interrupted => f.write_str("interrupted; the output is partly written"),
        }
    }
}

impl std::error::Error for Error {}
