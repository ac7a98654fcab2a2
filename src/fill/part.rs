//! The part of a fill that one thread does: elements to their places.
//!
//! Long lines of consecutive places are computed where they belong. All other elements are computed in
//! batches, in memory that stays in the first-level cache, and stored from there.

use super::batch::{BLOCKS, Batch, Memory};
use super::place::{Line, Places, Tile};
use super::run::{Run, Source};
use super::threads::{Countdown, FAR, Pulse};
use crate::rng::Substream;
use crate::seed::Key;
use crate::simd::{Detected, transpose};
use std::mem::MaybeUninit;
use std::ops::Range;

/// Elements between two checks for an interrupt: 256 KiB to 1 MiB, well under a millisecond.
const PIECE: usize = 1 << 17;

/// Lines of consecutive places are computed in place from this many bytes on.
const LONG: usize = 4096;

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
        match places.across() {
            Some(across) => self.tiles(places, across, range, &mut pauses),
            None => self.lines(places, range, &mut pauses),
        }
    }

    /// A batch for at most `most` elements in all.
    fn batch<'b>(&'b self, most: usize, memory: &'b mut Memory) -> Batch<'b> {
        Batch::new(self.source, self.key, Substream::Values, self.level, most, memory)
    }

    fn lines<T: Copy>(&self, places: &Places<'_, T>, range: Range<usize>, pauses: &mut Pauses<'_>) {
        let (most, mut memory) = (range.len(), Memory::new());
        let mut memory = Some(&mut memory);
        let mut short = None;
        places.lines(range, |mut line| {
            if line.stride == 1 && line.length * size_of::<T>() >= LONG {
                return self.long(&line, pauses);
            }
            if let Some(memory) = memory.take() {
                short = Some(Short::new(self.batch(most, memory), line.stride, most));
            }
            let Some(short) = &mut short else { return false };
            while line.length > 0 {
                if !short.takes(&mut line) && !short.store(pauses) {
                    return false;
                }
            }
            true
        });
        if let Some(mut short) = short {
            short.store(pauses);
        }
    }

    /// Fills a long line of consecutive places, in pieces; returns whether to go on.
    fn long<T: Copy>(&self, line: &Line<T>, pauses: &mut Pauses<'_>) -> bool {
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
        across: isize,
        range: Range<usize>,
        pauses: &mut Pauses<'_>,
    ) {
        let mut memory = Memory::new();
        let mut tiles = Tiles::new(self.batch(places.len(), &mut memory), places, across);
        places.tiles(range, |tile| {
            if !tiles.has_room(&tile) && !tiles.store(pauses) {
                return false;
            }
            tiles.take(&tile);
            true
        });
        tiles.store(pauses);
    }
}

/// Short lines, and lines with gaps, that are computed together.
struct Short<'a, T> {
    batch: Batch<'a>,
    stride: isize,
    /// The first place of each piece of a line, where its elements are in the batch, and how many they are.
    pieces: Vec<(*mut T, u16, u16)>,
}

impl<'a, T: Copy> Short<'a, T> {
    fn new(batch: Batch<'a>, stride: isize, most: usize) -> Short<'a, T> {
        Short { batch, stride, pieces: Vec::with_capacity(most.min(BLOCKS)) }
    }

    /// Takes as much of a line as there is room for; returns whether that is anything.
    #[inline]
    fn takes(&mut self, line: &mut Line<T>) -> bool {
        if self.pieces.len() == BLOCKS {
            return false;
        }
        let (offset, length) = self.batch.add(line.first, line.length);
        if length == 0 {
            return false;
        }
        self.pieces.push((line.start, offset as u16, length as u16));
        line.start = line.start.wrapping_offset(length as isize * self.stride);
        line.first += length as u64;
        line.length -= length;
        true
    }

    /// Stores what was taken; returns whether to go on.
    fn store(&mut self, pauses: &mut Pauses<'_>) -> bool {
        let from: *const T = self.batch.compute().cast();
        let far = self.stride.unsigned_abs() * size_of::<T>() >= FAR;
        let mut elements = 0;
        for &(to, offset, length) in &self.pieces {
            elements += length as usize;
            // SAFETY: the batch has `length` elements from `offset` on. The places are those of a line, as in
            // `Part::long`.
            unsafe {
                let from = from.add(offset as usize);
                if self.stride == 1 {
                    copy(from.cast(), to.cast(), length as usize * size_of::<T>());
                } else {
                    for i in 0..length as usize {
                        *to.offset(i as isize * self.stride) = *from.add(i);
                        if far && !pauses.far.goes_on(1) {
                            return false;
                        }
                    }
                }
            }
            if !pauses.far.goes_on(1) {
                return false;
            }
        }
        self.pieces.clear();
        pauses.go_on(elements)
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
struct Tiles<'a, 'b, T> {
    places: &'a Places<'b, T>,
    /// The distance from line to line in memory.
    across: isize,
    batch: Batch<'a>,
    /// The indices along the run, which all tiles share, and their distances in memory.
    run: Range<usize>,
    distances: Vec<isize>,
    /// The place of the first element of each tile, and the number of its lines.
    tiles: Vec<(*mut T, usize)>,
    /// Where the elements of each line are in the batch.
    lines: Vec<u16>,
}

impl<'a, 'b, T: Copy> Tiles<'a, 'b, T> {
    fn new(batch: Batch<'a>, places: &'a Places<'b, T>, across: isize) -> Tiles<'a, 'b, T> {
        Tiles { places, across, batch, run: 0..0, distances: vec![], tiles: vec![], lines: vec![] }
    }

    /// Whether there is room for the tile.
    fn has_room(&self, tile: &Tile<T>) -> bool {
        let per_block = if size_of::<T>() == 8 { 2 } else { 4 };
        self.tiles.is_empty()
            || self.run == tile.run
                && tile.lines * Batch::blocks_of(tile.run.len(), per_block) <= self.batch.room()
    }

    /// Takes a tile, for which there must be room.
    fn take(&mut self, tile: &Tile<T>) {
        if self.run != tile.run {
            self.run = tile.run.clone();
            self.distances.resize(tile.run.len(), 0);
            self.places.distances(tile.run.start, &mut self.distances);
        }
        self.tiles.push((tile.start, tile.lines));
        let mut first = tile.first;
        for _ in 0..tile.lines {
            self.lines.push(self.batch.add(first, tile.run.len()).0 as u16);
            first = first.wrapping_add(tile.step);
        }
    }

    /// Stores what was taken; returns whether to go on.
    fn store(&mut self, pauses: &mut Pauses<'_>) -> bool {
        let from: *const T = self.batch.compute().cast();
        let (distances, mut lines) = (&self.distances[..], &self.lines[..]);
        for &(to, count) in &self.tiles {
            let (own, others) = lines.split_at(count);
            // SAFETY: the batch has the elements of the tile, whose places are those of a view that is mutably
            // borrowed for the fill. Each is in one tile of one part, so no other code reads or writes it.
            let goes_on = unsafe {
                match size_of::<T>() {
                    2 => store_tile::<T, 8>(from, own, to, distances, self.across, pauses),
                    4 => store_tile::<T, 4>(from, own, to, distances, self.across, pauses),
                    _ => store_tile::<T, 2>(from, own, to, distances, self.across, pauses),
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

/// Stores a tile: element *i* of line *j* goes to the place `distances[i] + j * across`. `N` elements of `T` have
/// 16 bytes. Returns whether to go on.
///
/// # Safety
/// `from` must have the elements of each line from its offset on, and 16 bytes more after the last; the places
/// must be valid for writing.
#[inline(always)]
unsafe fn store_tile<T: Copy, const N: usize>(
    from: *const T,
    lines: &[u16],
    to: *mut T,
    distances: &[isize],
    across: isize,
    pauses: &mut Pauses<'_>,
) -> bool {
    for (number, distances) in distances.chunks(N).enumerate() {
        // SAFETY: the caller guarantees the elements.
        let from = unsafe { from.add(number * N) };
        if across == 1 && lines.len() >= N {
            for at in (0..lines.len()).step_by(N) {
                // The last squares may overlap.
                let at = at.min(lines.len() - N);
                let lines = &lines[at..at + N];
                // SAFETY: a register may be read from each line, since 16 bytes follow the last element. A
                // column has `N` places.
                unsafe {
                    transpose::<N>(
                        |i| from.add(lines[i] as usize).cast(),
                        |i| to.offset(distances[i] + at as isize).cast(),
                        distances.len(),
                    );
                }
            }
        } else {
            for (i, &distance) in distances.iter().enumerate() {
                for (&line, at) in lines.iter().zip(0..) {
                    // SAFETY: as the caller guarantees.
                    unsafe { *to.offset(distance + at * across) = *from.add(line as usize + i) };
                }
            }
        }
        if !pauses.far.goes_on(distances.len()) {
            return false;
        }
    }
    true
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
