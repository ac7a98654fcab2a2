#![no_main]
use fastinit::*; // The properties take their names from the root of a crate.

#[allow(dead_code)] // Each target has one of them.
#[path = "../tests/rust/properties.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::windows(data));
