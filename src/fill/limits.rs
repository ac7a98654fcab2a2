//! What the system lets this process have: memory by its control group, address space by its limit.
//!
//! A process that exceeds the memory limit of its control group is killed, without an error that it could
//! report. And a thread that starts without room for its thread-local data is ended by the C library together
//! with the process. So both are looked at beforehand.

use crate::error::{Error, Result};
use std::fs;
use std::path::Path;

/// Less memory than this is not worth reading files for.
const LOOK_FROM: usize = 32 << 20;

/// Checks that the control group of this process allows it this many bytes more. Where the limit cannot be
/// read, there is none.
///
/// # Errors
/// [`Error::MemoryLimit`] where it does not.
pub(crate) fn check_memory(bytes: usize) -> Result<()> {
    if cfg!(target_os = "linux") && bytes >= LOOK_FROM {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let swap = number_after(&meminfo, "SwapFree:").unwrap_or(0).saturating_mul(1024);
        if let Some((left, limit)) = left_in(Path::new("/sys/fs/cgroup"), &groups, swap)
            && bytes as u64 > left
        {
            return Err(Error::MemoryLimit { bytes, left, limit });
        }
    }
    Ok(())
}

/// The least memory that any of the control groups leaves, and its limit. `groups` has the format of
/// `/proc/self/cgroup`, `root` is where control groups are mounted. In a container the path may be that of the
/// host, of which nothing is mounted but the end; so directories that do not exist are passed over.
fn left_in(root: &Path, groups: &str, swap: u64) -> Option<(u64, u64)> {
    let mut least: Option<(u64, u64)> = None;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        // Version 2 has one hierarchy without a name, version 1 one for each controller.
        let (root, limit, usage) = match controllers {
            "" => (root.to_path_buf(), "memory.max", "memory.current"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes", "memory.usage_in_bytes")
            }
            _ => continue,
        };
        let mut directory = root.join(path.trim_start_matches('/'));
        loop {
            if let Some((left, limit)) = left_of(&directory, limit, usage, swap)
                && least.is_none_or(|(least, _)| left < least)
            {
                least = Some((left, limit));
            }
            if directory == root || !directory.pop() || !directory.starts_with(&root) {
                break;
            }
        }
    }
    least
}

/// What one control group leaves, and its limit: the system gives up cached files before it kills a process.
fn left_of(directory: &Path, limit: &str, usage: &str, swap: u64) -> Option<(u64, u64)> {
    let number = |name: &str| fs::read_to_string(directory.join(name)).ok()?.trim().parse::<u64>().ok();
    // Version 1 states that there is no limit by a number near 2^63.
    let (limit, usage) = (number(limit).filter(|&limit| limit < 1 << 62)?, number(usage)?);
    let statistics = fs::read_to_string(directory.join("memory.stat")).unwrap_or_default();
    // In version 1 the names without "total" leave out the groups below.
    let cached: u64 = ["active_file", "inactive_file", "slab_reclaimable"]
        .iter()
        .filter_map(|name| {
            number_after(&statistics, &format!("total_{name} "))
                .or_else(|| number_after(&statistics, &format!("{name} ")))
        })
        .sum();
    Some((limit.saturating_sub(usage.saturating_sub(cached)).saturating_add(swap), limit))
}

/// The number after a name at the beginning of a line.
fn number_after(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// What the system may map for a thread: its stack, and, while it begins, twice the 64 MiB of a heap of its own,
/// of which it uses some kilobytes.
#[cfg(target_os = "linux")]
const THREAD: usize = 136 << 20;

/// What small allocations may need besides.
#[cfg(target_os = "linux")]
const SMALL: usize = 4 << 20;

/// How many of `threads` threads besides the current one have room in the address space.
pub(crate) fn threads_with_room(threads: usize) -> usize {
    #[cfg(target_os = "linux")]
    if address_space_is_limited() {
        return (1..=threads).rev().find(|&threads| has_room(threads * THREAD + SMALL)).unwrap_or(0);
    }
    threads
}

/// Checks that there is room in the address space for small allocations, which end the process where they fail.
///
/// # Errors
/// [`Error::Memory`] where there is none.
pub(super) fn check_small() -> Result<()> {
    #[cfg(target_os = "linux")]
    if address_space_is_limited() && !has_room(SMALL) {
        return Err(Error::Memory { bytes: SMALL });
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn address_space_is_limited() -> bool {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: writes to `limit`, which is valid.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_AS, &raw mut limit) };
    result == 0 && limit.rlim_cur != libc::RLIM_INFINITY
}

/// Whether so many bytes can be mapped at the moment.
#[cfg(target_os = "linux")]
fn has_room(bytes: usize) -> bool {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: maps new memory at an address of the system's choice, and unmaps it.
    unsafe {
        let start = libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0);
        start != libc::MAP_FAILED && libc::munmap(start, bytes) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a hierarchy of these files leaves.
    fn left(name: &str, files: &[(&str, &str)], groups: &str, swap: u64) -> Option<(u64, u64)> {
        let root = std::env::temp_dir().join(format!("fastinit-{}-{name}", std::process::id()));
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let left = left_in(&root, groups, swap);
        fs::remove_dir_all(&root).unwrap();
        left
    }

    #[test]
    fn limits_of_control_groups() {
        let statistics = "anon 700\nfile 250\nactive_file 100\ninactive_file 50\n";
        let files = [
            ("memory.stat", ""),
            ("a/memory.max", "max\n"),
            ("a/memory.current", "900\n"),
            ("a/b/memory.max", "1000\n"),
            ("a/b/memory.current", "900\n"),
            ("a/b/memory.stat", statistics),
        ];
        // Cached files can be given up; swap can take more.
        assert_eq!(left("v2", &files, "0::/a/b\n", 0), Some((250, 1000)));
        assert_eq!(left("swap", &files, "0::/a/b\n", 30), Some((280, 1000)));
        // A group above may have less, and one below no limit.
        assert_eq!(left("below", &files, "0::/a/b/c\n", 0), Some((250, 1000)));
        assert_eq!(left("none", &files, "0::/a\n", 0), None);
        assert_eq!(left("outside", &files, "0::/../../x\n", 0), None);
        let files = [
            ("memory/memory.limit_in_bytes", "5000\n"),
            ("memory/memory.usage_in_bytes", "4900\n"),
            (
                "memory/memory.stat",
                "active_file 1\ninactive_file 1\ntotal_active_file 70\ntotal_inactive_file 5\n",
            ),
        ];
        // Version 1, in a container whose path is that of the host.
        let groups = "9:name=systemd:/\n4:cpu,memory:/docker/123\n0::/\n";
        assert_eq!(left("v1", &files, groups, 0), Some((175, 5000)));
        let none = [
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/memory.usage_in_bytes", "4900\n"),
        ];
        assert_eq!(left("no limit", &none, groups, 0), None);
        assert_eq!(left("full", &[("memory.max", "10"), ("memory.current", "20")], "0::/", 0), Some((0, 10)));
        assert_eq!(left("other", &files, "3:cpuset:/\nnonsense\n", 0), None);
    }

    #[test]
    fn small_requests_pass_and_impossible_ones_do_not_overflow() {
        check_memory(0).unwrap();
        check_memory(LOOK_FROM - 1).unwrap();
        let _ = check_memory(usize::MAX);
    }
}
