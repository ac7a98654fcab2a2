//! The tests of what is promised about bits and values: one program, one module for each promise.
//!
//! Every test of a level runs on all levels that the CPU has, and says which of its architecture it lacks.

mod accuracy;
mod common;
mod contract;
mod environment;
mod golden;
mod known_answers;
mod layout;
mod levels;
mod oracle;
mod orthogonal;
mod stream;
