//! Memory: how much a run may use, what of it is free for activations, and what it used at most.
//!
//! Owns the account ([`Room`]) and the scratch files that take what does not fit ([`ScratchFile`]). It does not know
//! what is stored. Files are exact copies: a budget changes how long a run takes, never a number.

use crate::error::{Error, Result};
use bytesize::ByteSize;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The smallest budget that is accepted, in bytes. A smaller one is a mistake, such as a forgotten unit.
const LEAST: u64 = 16 << 20;

/// Parses a budget: `12GiB`, `800 MB`, `1.5TiB`.
///
/// # Errors
/// Not a number with a unit, or too little for any model.
pub fn parse_budget(text: &str) -> Result<ByteSize> {
    let example = "write it as in \"12GiB\" or \"800MB\"";
    if text.trim().parse::<f64>().is_ok() {
        return Err(Error::config(format!("memory `{text}` has no unit; {example}")));
    }
    let size: ByteSize = text
        .trim()
        .parse()
        .map_err(|_| Error::config(format!("memory `{text}` is not an amount of memory; {example}")))?;
    if size.0 < LEAST {
        let message = format!(
            "memory `{text}` is less than {}, too little for any model",
            ByteSize(LEAST)
        );
        return Err(Error::config(message));
    }
    // A number beyond what 64 bits hold is clipped by the parser, not refused.
    if size.0 > 1 << 50 {
        return Err(Error::config(format!(
            "memory `{text}` is more than any machine has; {example}"
        )));
    }
    Ok(size)
}

/// The memory that is left for activations and for results that are kept for reuse. All clones share one account.
#[derive(Debug, Clone)]
pub struct Room(Arc<Account>);

#[derive(Debug)]
struct Account {
    free: AtomicU64,
    /// Bytes of a device's own memory that what is stored must leave free.
    left_on_device: AtomicU64,
    spilled: AtomicU64,
    folder: PathBuf,
}

/// Bytes taken out of a [`Room`] until this is dropped.
#[derive(Debug)]
pub struct Reserved {
    room: Room,
    bytes: u64,
}

impl Room {
    /// An account of `bytes` bytes. What does not fit goes to files in `folder`.
    pub fn new(bytes: u64, folder: &Path) -> Self {
        Room(Arc::new(Account {
            free: AtomicU64::new(bytes),
            left_on_device: AtomicU64::new(0),
            spilled: AtomicU64::new(0),
            folder: folder.to_path_buf(),
        }))
    }

    /// An account without a limit: everything stays in memory.
    pub fn unlimited() -> Self {
        Room::new(u64::MAX, &std::env::temp_dir())
    }

    /// Reserves `bytes` bytes; `None` if they are not free.
    pub fn reserve(&self, bytes: u64) -> Option<Reserved> {
        let take = |free: u64| free.checked_sub(bytes);
        let taken = self.0.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.is_ok().then(|| Reserved {
            room: self.clone(),
            bytes,
        })
    }

    /// Says how many bytes of a device's own memory what is stored there from now on must leave free.
    pub fn leave_on_device(&self, bytes: u64) {
        self.0.left_on_device.store(bytes, Ordering::Relaxed);
    }

    /// As many bytes of a device's own memory must stay free.
    pub fn left_on_device(&self) -> u64 {
        self.0.left_on_device.load(Ordering::Relaxed)
    }

    /// Creates a file for what does not fit. The file has no name, so nothing of it is left however the run ends.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn scratch(&self) -> Result<ScratchFile> {
        let folder = &self.0.folder;
        let file = tempfile::tempfile_in(folder).map_err(|error| self.full(error))?;
        Ok(ScratchFile {
            room: self.clone(),
            file,
        })
    }

    /// Number of bytes written to scratch files so far.
    pub fn spilled(&self) -> u64 {
        self.0.spilled.load(Ordering::Relaxed)
    }

    fn full(&self, error: std::io::Error) -> Error {
        let message =
            format!("{error} (what does not fit in `memory` goes to scratch files; --scratch DIR sets their folder)");
        Error::output(&self.0.folder, message)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.room.0.free.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

/// A file without a name, which holds `f32` values that do not fit in memory.
#[derive(Debug)]
pub struct ScratchFile {
    room: Room,
    file: File,
}

impl ScratchFile {
    /// Writes values from element `start` on.
    ///
    /// # Errors
    /// The disk is full.
    pub fn put(&self, start: usize, values: &[f32]) -> Result<()> {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        let mut file = &self.file;
        file.seek(SeekFrom::Start(4 * start as u64))
            .and_then(|_| file.write_all(bytes))
            .map_err(|error| self.room.full(error))?;
        self.room.0.spilled.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Reads `count` values from element `start` on.
    ///
    /// # Errors
    /// The disk fails.
    pub fn get(&self, start: usize, count: usize) -> Result<Vec<f32>> {
        let mut values = vec![0.0f32; count];
        let mut file = &self.file;
        file.seek(SeekFrom::Start(4 * start as u64))
            .and_then(|_| file.read_exact(bytemuck::cast_slice_mut(&mut values)))
            .map_err(|error| Error::reading(&self.room.0.folder, error))?;
        Ok(values)
    }
}

/// How long an answer of [`available`] is used again. Thousands of small files are read, and asking the system takes
/// longer than reading one of them.
const STANDS: Duration = Duration::from_millis(50);

/// Number of bytes that this process can still take before the system swaps it out or ends it: free memory and swap,
/// within the limits of its control group and of its address space. `None` if the system does not tell. The number
/// may be 50 ms old.
pub fn available() -> Option<u64> {
    static KNOWN: Mutex<Option<(Instant, Option<u64>)>> = Mutex::new(None);
    // Whoever panicked while it was held left a whole value.
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    match *known {
        Some((asked, free)) if asked.elapsed() < STANDS => free,
        _ => {
            let free = available_now();
            *known = Some((Instant::now(), free));
            free
        }
    }
}

fn available_now() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let kibibytes = |text: &str, key: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        let number: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(number << 10)
    };
    let system = read("/proc/meminfo")?;
    let mut free = kibibytes(&system, "MemAvailable:")? + kibibytes(&system, "SwapFree:").unwrap_or(0);
    let number = |path: String| read(&path)?.trim().parse::<u64>().ok();
    for (folder, most, used) in control_groups(&read("/proc/self/cgroup").unwrap_or_default()) {
        // What is not a number ("max") is no limit.
        if let (Some(most), Some(used)) = (number(folder.clone() + most), number(folder.clone() + used)) {
            // Pages of files count as used, but are given up when memory is wanted.
            let statistics = read(&(folder + "/memory.stat")).unwrap_or_default();
            let files = |line: &str| {
                let (name, bytes) = line.split_once(' ')?;
                let counted = ["inactive_file", "active_file"].contains(&name.trim_start_matches("total_"));
                bytes.parse::<u64>().ok().filter(|_| counted)
            };
            let files: Vec<u64> = statistics.lines().filter_map(files).collect();
            // Version 1 lists them for the group alone and, larger, in total; the last two are meant in both.
            let given_up: u64 = files.iter().rev().take(2).sum();
            free = free.min(most.saturating_sub(used.saturating_sub(given_up)));
        }
    }
    // "Max address space         8589934592           8589934592           bytes"
    let limits = read("/proc/self/limits").unwrap_or_default();
    let space = limits.lines().find_map(|line| line.strip_prefix("Max address space"));
    let space = space.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    if let (Some(space), Some(used)) = (
        space,
        read("/proc/self/status").and_then(|it| kibibytes(&it, "VmSize:")),
    ) {
        free = free.min(space.saturating_sub(used));
    }
    Some(free)
}

/// Folders of the memory controllers of this process's control group and of the groups above it, with the names of
/// the files for limit and use: version 2, and version 1 for systems that still have it.
fn control_groups(own: &str) -> Vec<(String, &'static str, &'static str)> {
    let mut found = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (root, most, used) = if controllers.is_empty() {
            ("/sys/fs/cgroup", "/memory.max", "/memory.current")
        } else if controllers.split(',').any(|it| it == "memory") {
            (
                "/sys/fs/cgroup/memory",
                "/memory.limit_in_bytes",
                "/memory.usage_in_bytes",
            )
        } else {
            continue;
        };
        let above = Path::new(path).ancestors();
        found.extend(above.map(|it| (format!("{root}{}", it.display()), most, used)));
    }
    found
}

/// The largest resident set since the start or since the last [`forget_peak`], in bytes, including pages of mapped
/// files. `None` if the system does not tell.
pub fn peak_resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

/// Makes [`peak_resident`] count from now on, if the system supports it.
pub fn forget_peak() {
    // Where this is refused, a peak is that of the whole process: larger, never smaller than the truth.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_amounts_with_a_unit() {
        assert_eq!(parse_budget("12GiB").expect("an amount"), ByteSize(12 << 30));
        assert_eq!(parse_budget(" 1.5 gib ").expect("an amount"), ByteSize(3 << 29));
        assert_eq!(parse_budget("800MB").expect("an amount"), ByteSize(800_000_000));
        for wrong in [
            "12", "", "GiB", "-1GiB", "0GiB", "1KiB", "twelve", "12GiB/s", "nan GiB", "infGiB", "1e300GiB", "9e9TiB",
        ] {
            assert!(parse_budget(wrong).is_err(), "{wrong}: {:?}", parse_budget(wrong));
        }
    }

    #[test]
    fn limits_of_all_control_groups_above_are_found() {
        let found = control_groups("0::/user/a\n");
        let folders: Vec<&str> = found.iter().map(|(folder, ..)| folder.as_str()).collect();
        assert_eq!(
            folders,
            ["/sys/fs/cgroup/user/a", "/sys/fs/cgroup/user", "/sys/fs/cgroup/"]
        );
        let found = control_groups("12:cpu,cpuacct:/x\n4:memory:/docker/1\n");
        assert_eq!(found[0].0, "/sys/fs/cgroup/memory/docker/1");
        assert_eq!((found.len(), found[0].1), (3, "/memory.limit_in_bytes"));
        if cfg!(target_os = "linux") {
            assert!(available().expect("Linux tells") > LEAST);
        }
    }

    #[test]
    fn what_is_reserved_comes_back() {
        let room = Room::new(100, Path::new("."));
        let first = room.reserve(60).expect("there is room");
        assert!(room.reserve(41).is_none());
        let second = room.reserve(40);
        assert!(second.is_some());
        drop(first);
        assert!(room.reserve(60).is_some());
        drop(second);
        assert!(room.reserve(100).is_some());
        assert!(Room::unlimited().reserve(u64::MAX).is_some());
    }

    #[test]
    fn scratch_files_give_back_every_bit_and_have_no_name() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let room = Room::new(0, folder.path());
        let scratch = room.scratch().expect("writable");
        let values = [1.5f32, -0.0, f32::MIN_POSITIVE / 2.0, 3e38];
        scratch.put(4, &values).expect("there is room");
        scratch.put(0, &[7.0; 4]).expect("there is room");
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&scratch.get(4, 4).expect("readable")), bits(&values));
        assert_eq!(room.spilled(), 32);
        assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 0);
    }

    #[test]
    fn a_scratch_folder_that_is_not_there_is_named() {
        let error = Room::new(0, Path::new("no/such/folder"))
            .scratch()
            .expect_err("no folder");
        assert!(error.to_string().contains("no/such/folder"), "{error}");
        assert!(error.to_string().contains("--scratch"), "{error}");
        assert_eq!(error.kind(), crate::error::ErrorKind::Output);
    }
}
