//! What the kernel says about a process and the machine: CPU time, memory, bytes written, who listens on a port.
//!
//! Reads `/proc` as proc(5) describes it. Elsewhere than on Linux everything here is `None`, and reports leave it out.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::time::Duration;

/// Clock ticks per second in `/proc/*/stat`. Linux fixes USER_HZ at 100 for user space on every architecture we run on.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process and all its descendants have used so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// User and system CPU seconds.
    pub cpu_s: f64,
    /// Bytes handed to the block layer.
    pub written_bytes: u64,
}

/// CPU and bytes written of the processes `roots`, their descendants and the children they have waited for.
pub fn usage(roots: &[u32]) -> Option<Usage> {
    let mut total = Usage::default();
    for pid in tree(roots)? {
        if let Some(stat) = Stat::read(pid) {
            total.cpu_s += stat.ticks as f64 / TICKS_PER_SECOND;
        }
        total.written_bytes += status_number(&format!("/proc/{pid}/io"), "write_bytes:").unwrap_or(0);
    }
    Some(total)
}

/// Highest resident size in MB (10^6 bytes) of `roots` and their descendants since [`reset_peak`], or since they started.
pub fn peak_mb(roots: &[u32]) -> Option<f64> {
    sizes_mb(roots, "VmHWM:")
}

/// Resident size now in MB (10^6 bytes) of `roots` and their descendants.
pub fn resident_mb(roots: &[u32]) -> Option<f64> {
    sizes_mb(roots, "VmRSS:")
}

/// The sum of a size, with memory that processes share (a database's buffers) counted once: as much of it as the process
/// has that uses most of it now.
fn sizes_mb(roots: &[u32], field: &str) -> Option<f64> {
    let pids = tree(roots)?;
    let all: f64 = pids.iter().filter_map(|pid| status_mb(*pid, field)).sum();
    let shared: Vec<f64> = pids.iter().filter_map(|pid| status_mb(*pid, "RssShmem:")).collect();
    Some(all - counted_again(&shared))
}

/// How much of what several processes share is counted more than once.
fn counted_again(shared: &[f64]) -> f64 {
    shared.iter().sum::<f64>() - shared.iter().copied().fold(0.0, f64::max)
}

/// Starts the peak anew. False where the kernel does not allow it: the peak then counts from the process's start.
pub fn reset_peak(roots: &[u32]) -> bool {
    tree(roots).is_some_and(|pids| pids.iter().all(|pid| fs::write(format!("/proc/{pid}/clear_refs"), "5").is_ok()))
}

/// How many files and connections this process may have open.
pub fn open_files_max() -> Option<usize> {
    open_files_of(&fs::read_to_string("/proc/self/limits").ok()?)
}

fn open_files_of(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(usize::MAX),
        number => number.parse().ok(),
    }
}

/// CPU seconds the whole machine has been busy with, everybody's work together.
pub fn machine_busy_s() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let line = text.lines().next()?;
    let numbers: Vec<u64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guest time is already part of user.
    let busy: u64 = numbers.iter().take(8).enumerate().filter(|(at, _)| !matches!(at, 3 | 4)).map(|(_, n)| n).sum();
    Some(busy as f64 / TICKS_PER_SECOND)
}

/// The process that listens on TCP `port` of this machine.
pub fn listener(port: u16) -> Option<u32> {
    let mut inodes = HashSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = fs::read_to_string(table).unwrap_or_default();
        inodes.extend(text.lines().skip(1).filter_map(|line| listening_inode(line, port)));
    }
    let wanted: HashSet<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    processes().find(|pid| {
        let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            return false;
        };
        open.flatten()
            .filter_map(|entry| fs::read_link(entry.path()).ok())
            .any(|link| wanted.contains(&*link.to_string_lossy()))
    })
}

fn listening_inode(line: &str, port: u16) -> Option<String> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
    let here = *fields.get(3)? == LISTEN && u16::from_str_radix(local_port, 16) == Ok(port);
    here.then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
}

/// What `/proc/PID/stat` says.
struct Stat {
    parent: u32,
    ticks: u64,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        // The name in parentheses may hold anything, spaces and parentheses included: the last one ends it.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        // Own user and system time, then those of children that have been waited for.
        let ticks = (11..=14).map(number).sum::<Option<u64>>()?;
        Some(Self { parent: u32::try_from(number(1)?).ok()?, ticks })
    }
}

/// `roots` and all their living descendants; `None` when there are none, or one of them is gone.
fn tree(roots: &[u32]) -> Option<Vec<u32>> {
    if roots.is_empty() || roots.iter().any(|root| Stat::read(*root).is_none()) {
        return None;
    }
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for pid in processes() {
        if let Some(stat) = Stat::read(pid) {
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    let mut found = roots.to_vec();
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        let below = children.remove(pid).unwrap_or_default();
        found.extend(below);
        next += 1;
    }
    Some(found)
}

fn processes() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn status_mb(pid: u32, field: &str) -> Option<f64> {
    let kib = status_number(&format!("/proc/{pid}/status"), field)?;
    Some(kib as f64 * 1024.0 / 1e6)
}

fn status_number(path: &str, field: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The machine, as a report names it.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Machine {
    /// CPU model.
    pub cpu: String,
    /// Cores the tool may use.
    pub cores: usize,
    /// Memory in GB.
    pub memory_gb: f64,
    /// Kernel release.
    pub kernel: String,
    /// File system that holds the servers' data.
    pub file_system: String,
    /// Load of the machine over the last minute when the run began.
    pub load_before: String,
}

impl Machine {
    /// In one line.
    pub fn in_words(&self) -> String {
        let Self { cpu, cores, memory_gb, kernel, file_system, load_before } = self;
        format!(
            "{cpu}, {cores} cores, {memory_gb:.0} GB, Linux {kernel}, data on {file_system}; load before the run {load_before}."
        )
    }

    /// Describes this machine, and the file system of `folder`.
    pub fn here(folder: &std::path::Path) -> Self {
        let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpus
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
            .map_or_else(|| "unknown".to_owned(), |(_, model)| model.trim().to_owned());
        let trimmed = |path| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        Self {
            cpu,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gb: status_number("/proc/meminfo", "MemTotal:").map_or(0.0, |kib| kib as f64 * 1024.0 / 1e9),
            kernel: trimmed("/proc/sys/kernel/osrelease"),
            file_system: file_system(folder).unwrap_or_else(|| "unknown".to_owned()),
            load_before: trimmed("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
        }
    }
}

fn file_system(folder: &std::path::Path) -> Option<String> {
    let folder = folder.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let of = |line: &str| {
        let mut fields = line.split(' ').skip(1);
        let (point, kind) = (fields.next()?, fields.next()?);
        folder.starts_with(point).then(|| (point.len(), kind.to_owned()))
    };
    mounts.lines().filter_map(of).max().map(|(_, kind)| kind)
}

/// CPU seconds of this very process.
pub fn own_cpu() -> Duration {
    let stat = Stat::read(std::process::id());
    Duration::from_secs_f64(stat.map_or(0.0, |stat| stat.ticks as f64 / TICKS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_of_a_program_with_parentheses_in_its_name_is_read() {
        let text = "7 (a) b (c) S 3 7 7 0 -1 4194304 100 0 0 0 11 22 33 44 20 0 1 0 5 6 7";
        let stat = Stat::parse(text).expect("a stat line");
        assert_eq!((stat.parent, stat.ticks), (3, 110));
    }

    #[test]
    fn own_listener_is_found_by_port() {
        let listener_here = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let port = listener_here.local_addr().expect("an address").port();
        assert_eq!(listener(port), Some(std::process::id()));
    }

    #[test]
    fn this_process_has_used_something() {
        let here = [std::process::id()];
        assert!(usage(&here).is_some() && resident_mb(&here).is_some_and(|mb| mb > 0.1));
        assert!(usage(&[]).is_none(), "an unknown process has used nothing that is known");
    }

    #[test]
    fn what_processes_share_is_counted_once() {
        assert_eq!(counted_again(&[0.0]), 0.0);
        assert_eq!(counted_again(&[90.0, 20.0, 30.0, 0.0]), 50.0);
    }

    #[test]
    fn limit_of_open_files_is_the_soft_one() {
        let text = "Limit                     Soft Limit           Hard Limit           Units\n\
                    Max open files            1024                 524288               files\n";
        assert_eq!(open_files_of(text), Some(1_024));
        assert_eq!(
            open_files_of("Max open files            unlimited            unlimited            files"),
            Some(usize::MAX)
        );
    }
}
