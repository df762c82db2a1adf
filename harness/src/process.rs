//! Processes seen from outside: CPU and memory from `/proc`, a polite end, Ctrl-C, plain output.

use std::io::Write;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

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
