//! System calls and allocations of a process, counted by the kernel through `perf`: by root, on Linux.
//!
//! Where that is not to be had they are left out, and the report says why.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::Failure;
use crate::compare::process::{WorkFolder, output};

/// Functions through which everything that this server allocates goes; each is one allocation.
const ALLOCATORS: [&str; 3] = ["mi_malloc_aligned", "mi_zalloc_aligned", "mi_realloc_aligned"];
const SYSCALLS: &str = "raw_syscalls:sys_enter";
/// The group of our probes, which are gone afterwards.
const GROUP: &str = "koinebench";

/// What can be counted of a process.
pub struct Counters {
    pid: u32,
    has_syscalls: bool,
    has_allocations: bool,
    skipped: Vec<String>,
}

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Count {
    pub syscalls: Option<f64>,
    pub allocations: Option<f64>,
}

/// A count under way.
pub struct Counting {
    perf: Child,
    control: File,
    answers: File,
    _folder: WorkFolder,
}

impl Counters {
    /// Finds out what can be counted.
    pub fn attach(pid: u32) -> Self {
        let mut counters = Self { pid, has_syscalls: false, has_allocations: false, skipped: Vec::new() };
        let probe = |event: &str| output(Command::new("perf").args(["stat", "-e", event, "true"]));
        match probe(SYSCALLS) {
            Ok(_) => counters.has_syscalls = true,
            Err(error) => counters.skip(format!("system calls: {error}")),
        }
        remove_probes();
        let binary = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        let mut added = Ok(String::new());
        for (number, function) in ALLOCATORS.iter().enumerate() {
            let event = format!("{GROUP}:alloc{number}={function}");
            added = added.and_then(|_| {
                output(Command::new("perf").args(["probe", "-q", "-x"]).arg(&binary).args(["--add", &event]))
            });
        }
        match added {
            Ok(_) => counters.has_allocations = true,
            Err(error) => counters.skip(format!("allocations: {error}")),
        }
        counters
    }

    fn skip(&mut self, what: String) {
        eprintln!("\n******** SKIPPED: {what}\n");
        self.skipped.push(what);
    }

    /// What could not be counted, and why.
    pub fn skipped(&self) -> Vec<String> {
        self.skipped.clone()
    }

    /// Begins to count; nothing where nothing can be counted.
    pub fn begin(&self) -> Result<Option<Counting>, Failure> {
        let mut events = Vec::new();
        events.extend(self.has_syscalls.then(|| SYSCALLS.to_owned()));
        if self.has_allocations {
            events.extend((0..ALLOCATORS.len()).map(|number| format!("{GROUP}:alloc{number}")));
        }
        if events.is_empty() {
            return Ok(None);
        }
        let folder = WorkFolder::named("perf")?;
        let pipe = |name: &str| -> Result<PathBuf, Failure> {
            let path = folder.path.join(name);
            if !path.exists() {
                output(Command::new("mkfifo").arg(&path))?;
            }
            Ok(path)
        };
        let (control, answers) = (pipe("control")?, pipe("answers")?);
        let mut perf = Command::new("perf");
        perf.args(["stat", "-x", ";", "-D", "-1", "--control"]);
        perf.arg(format!("fifo:{},{}", control.display(), answers.display()));
        perf.args(["-e", &events.join(","), "-p", &self.pid.to_string()]);
        perf.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let io = |error| Failure::Io("perf stat".to_owned(), error);
        let perf = perf.spawn().map_err(io)?;
        // Both ends wait for each other here.
        let open = |path: &Path| File::options().read(true).write(true).open(path).map_err(io);
        let mut counting = Counting { perf, control: open(&control)?, answers: open(&answers)?, _folder: folder };
        counting.tell("enable")?;
        Ok(Some(counting))
    }
}

impl Counting {
    fn tell(&mut self, what: &str) -> Result<(), Failure> {
        let io = |error| Failure::Io("perf stat".to_owned(), error);
        self.control.write_all(format!("{what}\n").as_bytes()).map_err(io)?;
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"ack\n") {
            self.answers.read_exact(&mut byte).map_err(io)?;
            answer.push(byte[0]);
        }
        Ok(())
    }

    /// What was counted until now.
    pub fn end(mut self) -> Result<Count, Failure> {
        self.tell("disable")?;
        output(Command::new("sh").arg("-c").arg(format!("kill -INT {}", self.perf.id())))?;
        let mut said = String::new();
        let io = |error| Failure::Io("perf stat".to_owned(), error);
        self.perf.stderr.take().expect("it is piped").read_to_string(&mut said).map_err(io)?;
        self.perf.wait().map_err(io)?;
        Ok(read(&said))
    }
}

/// What `perf stat -x ;` says.
fn read(said: &str) -> Count {
    let mut count = Count::default();
    for line in said.lines() {
        let mut fields = line.split(';');
        let (Some(Ok(number)), Some(event)) = (fields.next().map(str::parse::<f64>), fields.nth(1)) else { continue };
        if event == SYSCALLS {
            count.syscalls = Some(number);
        } else if event.starts_with(GROUP) {
            count.allocations = Some(count.allocations.unwrap_or_default() + number);
        }
    }
    count
}

/// Errors mean that there were none.
fn remove_probes() {
    let _ = output(Command::new("perf").args(["probe", "-q", "--del", &format!("{GROUP}:*")]));
}

impl Drop for Counters {
    fn drop(&mut self) {
        if self.has_allocations {
            remove_probes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_perf_says_is_added_up() {
        let said = "1200;;raw_syscalls:sys_enter;100;100.00;;\n70;;koinebench:alloc0;1;100.00;;\n\
                    5;;koinebench:alloc1;1;100.00;;\n<not counted>;;koinebench:alloc2;0;0.00;;\n";
        assert_eq!(read(said), Count { syscalls: Some(1_200.0), allocations: Some(75.0) });
        assert_eq!(read("perf: no permission\n"), Count::default());
    }
}
