//! The properties of `properties.rs`, with the inputs that are kept in `tests/data/fuzz` and with random ones.
//! `make fuzz` looks for others.

use super::common::SplitMix;
use super::properties::{plans, windows};
use std::fs;
use std::path::Path;

/// Shows an input with which a property fails.
struct Shown<'a>(&'a [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("with the input {:?}", self.0);
        }
    }
}

fn run(name: &str, property: fn(&[u8]), random_inputs: usize) {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/fuzz").join(name);
    let kept: Vec<Vec<u8>> =
        fs::read_dir(kept).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
    assert!(!kept.is_empty());
    let mut random = SplitMix(1);
    let random = (0..random_inputs).map(|_| (0..8 + random.below(90)).map(|_| random.next() as u8).collect());
    for input in kept.into_iter().chain(random) {
        let _shown = Shown(&input);
        property(&input);
    }
}

#[test]
fn any_window_equals_that_part_of_the_whole() {
    run("windows", windows, 3000);
}

#[test]
fn any_plan_is_refused_or_filled() {
    run("plans", plans, 20_000);
}
