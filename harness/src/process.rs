//! Processes seen from outside: CPU and memory from `/proc`, a polite end, Ctrl-C, plain output.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What a process has used.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// CPU seconds in user mode.
    pub user_s: f64,
    /// CPU seconds in the kernel.
    pub system_s: f64,
    /// Resident bytes now.
    pub resident: u64,
    /// Most resident bytes ever.
    pub resident_peak: u64,
}

impl Usage {
    /// CPU seconds in all.
    #[must_use]
    pub fn cpu_s(&self) -> f64 {
        self.user_s + self.system_s
    }
}

/// Reads what a process has used so far.
pub fn usage(pid: u32) -> Result<Usage> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("read stat")?;
    let after = stat.rsplit_once(')').context("stat without a name")?.1;
    let ticks = |index: usize| {
        let field = after.split_whitespace().nth(index);
        field
            .and_then(|field| field.parse::<f64>().ok())
            .unwrap_or(0.0)
            / TICKS
    };
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("read status")?;
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next());
        number
            .and_then(|number| number.parse::<u64>().ok())
            .unwrap_or(0)
            * 1024
    };
    let (user_s, system_s) = (ticks(11), ticks(12));
    Ok(Usage {
        user_s,
        system_s,
        resident: kib("VmRSS:"),
        resident_peak: kib("VmHWM:"),
    })
}

/// What one thread has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Thread {
    name: String,
    /// It slept, and ran.
    wakeups: u64,
    /// It ran, and was made to wait.
    preemptions: u64,
    run_ns: u64,
}

/// How often the threads of a process have run, and how long.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Activity {
    /// Nanoseconds on a CPU, over all threads.
    pub run_ns: u64,
    threads: BTreeMap<u32, Thread>,
}

impl Activity {
    /// What was done between `before` and this.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut threads = self.threads.clone();
        for (id, thread) in &mut threads {
            if let Some(was) = before.threads.get(id) {
                thread.wakeups -= was.wakeups;
                thread.preemptions -= was.preemptions;
                thread.run_ns -= was.run_ns;
            }
        }
        let run_ns = threads.values().map(|thread| thread.run_ns).sum();
        Self { run_ns, threads }
    }

    /// Voluntary switches.
    #[must_use]
    pub fn wakeups(&self) -> u64 {
        self.threads.values().map(|thread| thread.wakeups).sum()
    }

    /// Involuntary switches.
    #[must_use]
    pub fn preemptions(&self) -> u64 {
        self.threads.values().map(|thread| thread.preemptions).sum()
    }

    /// The threads that woke up, as ` (reader-0 2, tailwake 1)`; nothing where none did.
    #[must_use]
    pub fn by_thread(&self) -> String {
        let some = self.threads.values().filter(|thread| thread.wakeups > 0);
        let said: Vec<String> = some
            .map(|thread| format!("{} {}", thread.name, thread.wakeups))
            .collect();
        if said.is_empty() {
            return String::new();
        }
        format!(" ({})", said.join(", "))
    }
}

/// Reads what the threads of a process have done so far; it is not disturbed by that.
pub fn activity(pid: u32) -> Result<Activity> {
    let mut activity = Activity::default();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).context("list threads")? {
        let task = task?.path();
        // A thread may end between the listing and this.
        let Ok(status) = std::fs::read_to_string(task.join("status")) else {
            continue;
        };
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.map(str::trim).unwrap_or_default().to_owned()
        };
        let number = |name: &str| field(name).parse::<u64>().unwrap_or(0);
        let run = std::fs::read_to_string(task.join("schedstat")).unwrap_or_default();
        let run_ns = run.split(' ').next().and_then(|word| word.parse().ok());
        let thread = Thread {
            name: field("Name:"),
            wakeups: number("voluntary_ctxt_switches:"),
            preemptions: number("nonvoluntary_ctxt_switches:"),
            run_ns: run_ns.unwrap_or(0),
        };
        activity.run_ns += thread.run_ns;
        let id = task
            .file_name()
            .and_then(|name| name.to_str()?.parse().ok());
        activity.threads.insert(id.unwrap_or(0), thread);
    }
    Ok(activity)
}

/// Sends SIGTERM and waits; after `patience` it kills. Says whether it ended by itself.
pub fn end(child: &mut Child, patience: Duration) -> Result<bool> {
    Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status()
        .context("kill -TERM")?;
    let begun = Instant::now();
    while begun.elapsed() < patience {
        if child.try_wait()?.is_some() {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill()?;
    child.wait()?;
    Ok(false)
}

/// Raises this process's limit of open files to what the system allows.
pub fn raise_descriptors() -> Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, limit).context("raise RLIMIT_NOFILE")
}

/// A flag that Ctrl-C sets.
pub fn interrupted() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&flag);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name("ctrl-c".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                if tokio::signal::ctrl_c().await.is_ok() {
                    set.store(true, Ordering::Relaxed);
                }
                // A second Ctrl-C ends the program at once.
                let _ = tokio::signal::ctrl_c().await;
                std::process::exit(130);
            });
        })?;
    Ok(flag)
}

/// Prints a line for a person; a closed pipe is not an error.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// `USER_HZ`, fixed at 100 on Linux.
const TICKS: f64 = 100.0;
