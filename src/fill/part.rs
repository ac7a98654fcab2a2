//! The part of a fill that one thread does: elements to their places.
//!
//! Long lines of consecutive places are computed where they belong. All other elements are computed in
//! batches, in memory that stays in the first-level cache, and stored from there.

use super::batch::{Batch, Memory};
use super::place::{Line, Places, Store, Tile, Tiling};
use super::run::{Run, Source};
use super::threads::{Countdown, FAR, Pulse};
use crate::rng::Substream;
use crate::seed::Key;
use crate::simd::{Detected, transpose};
use std::mem::MaybeUninit;
use std::ops::Range;

/// Elements between two checks for an interrupt: 256 KiB to 1 MiB, well under a millisecond.
const PIECE: usize = 1 << 17;

/// The part of a fill that one thread does.
pub(super) struct Part<'a> {
    pub source: &'a Source,
    pub key: Key,
    pub level: Detected,
    /// Whether to use non-temporal stores for long lines.
    pub stream: bool,
    pub pulse: &'a Pulse<'a>,
}

impl Part<'_> {
    /// Fills the places of this range of `places`.
    pub(super) fn fill<T: Copy>(&self, places: &Places<'_, T>, range: Range<usize>) {
        let mut pauses = Pauses { pulse: self.pulse, elements: 0, far: Countdown::new(self.pulse) };
        match places.tiling() {
            Some(tiling) => self.tiles(places, tiling, range, &mut pauses),
            None => places.lines(range, |line| self.line(&line, &mut pauses)),
        }
    }

    /// Fills a line, in pieces; returns whether to go on.
    fn line<T: Copy>(&self, line: &Line<T>, pauses: &mut Pauses<'_>) -> bool {
        let Part { source, key, level, stream, .. } = *self;
        let mut done = 0;
        while done < line.length {
            let length = PIECE.min(line.length - done);
            // SAFETY: the elements of a line are places of a view that is mutably borrowed for the fill. Each
            // is in one line of one part, so no other code reads or writes it. Bytes need no alignment.
            let out: &mut [MaybeUninit<u8>] = unsafe {
                std::slice::from_raw_parts_mut(line.start.add(done).cast(), length * size_of::<T>())
            };
            let first = line.first + done as u64;
            Run { source, key, substream: Substream::Values, first, out, stream }.at(level);
            done += length;
            if !pauses.go_on(length) {
                return false;
            }
        }
        pauses.far.goes_on(1)
    }

    fn tiles<T: Copy>(
        &self,
        places: &Places<'_, T>,
        tiling: &Tiling,
        range: Range<usize>,
        pauses: &mut Pauses<'_>,
    ) {
        let mut memory = Memory::new();
        let most = places.len();
        let batch = Batch::new(self.source, self.key, Substream::Values, self.level, most, &mut memory);
        let mut tiles = Tiles { tiling, batch, run: 0..0, distances: vec![], tiles: vec![], lines: vec![] };
        places.tiles(tiling, range, |tile| {
            if !tiles.has_room(&tile) && !tiles.store(pauses) {
                return false;
            }
            tiles.take(&tile);
            true
        });
        tiles.store(pauses);
    }
}

/// Copies bytes, an even number of them, without the call that a few are not worth.
///
/// # Safety
/// As for [`std::ptr::copy_nonoverlapping`].
#[inline(always)]
unsafe fn copy(from: *const u8, to: *mut u8, bytes: usize) {
    // SAFETY: all copies lie within the bytes.
    unsafe {
        if bytes >= 256 {
            std::ptr::copy_nonoverlapping(from, to, bytes);
        } else if bytes >= 16 {
            let last = bytes - 16;
            for at in (0..last).step_by(16) {
                std::ptr::copy_nonoverlapping(from.add(at), to.add(at), 16);
            }
            std::ptr::copy_nonoverlapping(from.add(last), to.add(last), 16);
        } else {
            let mut at = 0;
            if bytes & 8 != 0 {
                std::ptr::copy_nonoverlapping(from, to, 8);
                at = 8;
            }
            if bytes & 4 != 0 {
                std::ptr::copy_nonoverlapping(from.add(at), to.add(at), 4);
                at += 4;
            }
            if bytes & 2 != 0 {
                std::ptr::copy_nonoverlapping(from.add(at), to.add(at), 2);
            }
        }
    }
}

/// Tiles that are computed together.
struct Tiles<'a, T> {
    tiling: &'a Tiling,
    batch: Batch<'a>,
    /// The indices along the run, which all tiles share, and their distances in memory.
    run: Range<usize>,
    distances: Vec<isize>,
    /// The place of the first element of each tile, and the number of its lines.
    tiles: Vec<(*mut T, usize)>,
    /// Where the elements of each line are in the batch.
    lines: Vec<u16>,
}

impl<T: Copy> Tiles<'_, T> {
    /// Whether there is room for the tile.
    fn has_room(&self, tile: &Tile<T>) -> bool {
        self.tiles.is_empty()
            || self.run == tile.run
                && self.lines.len() < Tiling::MOST_LINES
                && self.batch.has_room(self.tiling.blocks::<T>(tile.lines, tile.run.len()))
    }

    /// Takes a tile, for which there must be room.
    fn take(&mut self, tile: &Tile<T>) {
        if self.run != tile.run {
            self.run = tile.run.clone();
            self.distances.resize(tile.run.len(), 0);
            self.tiling.distances(tile.run.start, &mut self.distances);
        }
        self.tiles.push((tile.start, tile.lines));
        let (length, lines) = (tile.run.len(), self.lines.len() + tile.lines);
        if self.batch.is_constant() {
            self.lines.resize(lines, 0);
        } else if self.tiling.is_consecutive() {
            let first = self.batch.add(tile.first, tile.lines * length);
            self.lines.extend((0..tile.lines).map(|line| (first + line * length) as u16));
        } else {
            let (batch, step) = (&mut self.batch, self.tiling.step());
            self.lines.extend(
                (0..tile.lines as u64)
                    .map(|line| batch.add(tile.first.wrapping_add(line.wrapping_mul(step)), length) as u16),
            );
        }
    }

    /// Stores what was taken; returns whether to go on.
    fn store(&mut self, pauses: &mut Pauses<'_>) -> bool {
        let from: *const T = self.batch.compute().cast();
        let mut lines = &self.lines[..];
        for &(to, count) in &self.tiles {
            let (own, others) = lines.split_at(count);
            let tile =
                Stored { from, lines: own, to, distances: &self.distances, across: self.tiling.across() };
            // SAFETY: the batch has the elements of the tile, whose places are those of a view that is mutably
            // borrowed for the fill. Each is in one tile of one part, so no other code reads or writes it.
            let goes_on = unsafe {
                match (self.tiling.store(), size_of::<T>()) {
                    (Store::Lines, _) => tile.copy_lines(pauses),
                    (Store::Elements, _) => tile.copy_elements(pauses),
                    (Store::Squares, 2) => tile.transpose::<8>(pauses),
                    (Store::Squares, 4) => tile.transpose::<4>(pauses),
                    (Store::Squares, _) => tile.transpose::<2>(pauses),
                }
            };
            if !goes_on {
                return false;
            }
            lines = others;
        }
        let elements = self.lines.len() * self.run.len();
        self.tiles.clear();
        self.lines.clear();
        pauses.go_on(elements)
    }
}

/// A tile that has been computed: element *i* of line *j* goes to the place `distances[i] + j * across` from `to`
/// on.
///
/// Each method stores it and returns whether to go on. `from` must have the elements of each line from its offset
/// on, and [`SLACK`](super::batch::SLACK) bytes more after the last; the places must be valid for writing.
struct Stored<'a, T> {
    from: *const T,
    lines: &'a [u16],
    to: *mut T,
    distances: &'a [isize],
    across: isize,
}

impl<T: Copy> Stored<'_, T> {
    /// The places of a line must be consecutive.
    unsafe fn copy_lines(self, pauses: &mut Pauses<'_>) -> bool {
        let bytes = self.distances.len() * size_of::<T>();
        let far = self.across.unsigned_abs() * size_of::<T>() >= FAR;
        let mut to = self.to;
        for &line in self.lines {
            // SAFETY: the elements and the places of a line.
            unsafe { copy(self.from.add(line as usize).cast(), to.cast(), bytes) };
            to = to.wrapping_offset(self.across);
            if far && !pauses.far.goes_on(1) {
                return false;
            }
        }
        true
    }

    unsafe fn copy_elements(self, pauses: &mut Pauses<'_>) -> bool {
        let Stored { from, distances, across, .. } = self;
        let mut to = self.to;
        for lines in self.lines.chunks(64) {
            if distances.len() < lines.len() {
                for (i, &distance) in distances.iter().enumerate() {
                    let mut to = to.wrapping_offset(distance);
                    for &line in lines {
                        // SAFETY: an element and its place.
                        unsafe { *to = *from.add(line as usize + i) };
                        to = to.wrapping_offset(across);
                    }
                }
            } else {
                for (&line, j) in lines.iter().zip(0..) {
                    let to = to.wrapping_offset(j * across);
                    for (i, &distance) in distances.iter().enumerate() {
                        // SAFETY: an element and its place.
                        unsafe { *to.offset(distance) = *from.add(line as usize + i) };
                    }
                }
            }
            to = to.wrapping_offset(lines.len() as isize * across);
            if !pauses.far.goes_on(lines.len().max(distances.len())) {
                return false;
            }
        }
        true
    }

    /// `N` elements have 16 bytes, and lines must be adjacent in memory. If there are less than `N`, this is
    /// [`Stored::copy_elements`].
    unsafe fn transpose<const N: usize>(self, pauses: &mut Pauses<'_>) -> bool {
        let Stored { lines, to, distances, .. } = self;
        if lines.len() < N {
            // SAFETY: as the caller guarantees.
            return unsafe { self.copy_elements(pauses) };
        }
        for (number, distances) in distances.chunks(N).enumerate() {
            let mut rows = [to; N];
            for (row, &distance) in rows.iter_mut().zip(distances) {
                *row = to.wrapping_offset(distance);
            }
            let from = self.from.wrapping_add(number * N);
            for at in (0..lines.len()).step_by(N) {
                // The last squares may overlap.
                let at = at.min(lines.len() - N);
                let lines = &lines[at..at + N];
                let row = |i: usize| from.wrapping_add(lines[i] as usize).cast();
                let column = |i: usize| rows[i].wrapping_add(at).cast();
                // SAFETY: a register may be read from each line, since 16 bytes follow the last element. A
                // column has `N` places.
                unsafe {
                    // A known number needs no branches.
                    if distances.len() == N {
                        transpose::<N>(row, column, N);
                    } else {
                        transpose::<N>(row, column, distances.len());
                    }
                }
            }
            if !pauses.far.goes_on(distances.len()) {
                return false;
            }
        }
        true
    }
}

/// When to look for an interrupt: after [`PIECE`] elements, and after 64 places that may each be the first one
/// on their page.
struct Pauses<'a> {
    pulse: &'a Pulse<'a>,
    elements: usize,
    far: Countdown<'a>,
}

impl Pauses<'_> {
    /// Counts `elements` more; returns whether to go on.
    fn go_on(&mut self, elements: usize) -> bool {
        self.elements += elements;
        if self.elements < PIECE {
            return true;
        }
        self.elements = 0;
        !self.pulse.stopped()
    }
}
