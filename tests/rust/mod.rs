//! Tests of the promises about bits and values, one module for each promise.
//!
//! Every test of a level runs on all levels that the CPU has, and names those of the architecture that it
//! lacks.

mod accuracy;
mod blocks;
mod common;
mod contract;
mod environment;
mod fuzz;
mod golden;
mod known_answers;
mod layout;
mod levels;
mod oracle;
mod orthogonal;
mod properties;
mod stream;
