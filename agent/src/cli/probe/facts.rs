//! What the node says of itself: kernel, BTF, io_uring, inotify, limits, capabilities.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::{Resource, getrlimit};

use crate::guard::{self, Names};
use crate::tail::eventfd::EventFd;
use crate::tail::uring::UringRing;
use crate::wake::Wake;

/// What the agent wants, and what for.
pub(super) const WANTED: [(&str, &str); 3] = [
    ("BPF", "loads the probes"),
    ("PERFMON", "attaches them"),
    ("DAC_READ_SEARCH", "reads logs of other users"),
];

/// Something that is there, or why not.
pub(super) type Found = Result<String, String>;

/// How much of a limit is used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Used {
    pub(super) used: u64,
    pub(super) max: Option<u64>,
}

impl Used {
    /// Nine tenths are gone.
    pub(super) fn is_short(self) -> bool {
        self.max.is_some_and(|max| self.used * 10 >= max * 9)
    }
}

/// The node.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) kernel: String,
    pub(super) btf: Found,
    pub(super) io_uring: Found,
    /// Of this user, as far as /proc shows it.
    pub(super) inotify_instances: Used,
    pub(super) inotify_watches: Used,
    /// Bytes; `None` = no limit.
    pub(super) memlock: Option<u64>,
    pub(super) held: Names,
    /// Wanted and not held, with what for.
    pub(super) missing: Vec<(&'static str, &'static str)>,
    pub(super) landlock: Found,
    pub(super) seccomp: Found,
}

impl Facts {
    pub(super) fn gather() -> Self {
        let (instances, watches) = inotify_use();
        let held = guard::held();
        let limit = |name: &str| number(&format!("/proc/sys/fs/inotify/{name}"));
        Self {
            kernel: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            btf: btf(),
            io_uring: io_uring(),
            inotify_instances: Used {
                used: instances,
                max: limit("max_user_instances"),
            },
            inotify_watches: Used {
                used: watches,
                max: limit("max_user_watches"),
            },
            memlock: getrlimit(Resource::Memlock).current,
            held,
            missing: missing(held),
            landlock: guard::landlock_version(),
            seccomp: seccomp(),
        }
    }

    /// Before 5.11 maps count against RLIMIT_MEMLOCK.
    pub(super) fn counts_memlock(&self) -> bool {
        let mut parts = self.kernel.split(['.', '-']).map(str::parse::<u32>);
        let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else {
            return false;
        };
        (major, minor) < (5, 11)
    }
}

fn missing(held: Names) -> Vec<(&'static str, &'static str)> {
    // It stands for the two of the probes.
    let admin = held.has("SYS_ADMIN");
    let has = |name: &str| held.has(name) || (admin && name != "DAC_READ_SEARCH");
    let wanted = WANTED.into_iter();
    wanted.filter(|(name, _)| !has(name)).collect()
}

fn btf() -> Found {
    let path = "/sys/kernel/btf/vmlinux";
    match fs::metadata(path) {
        Ok(found) => Ok(format!("{} KiB", found.len() / 1024)),
        Err(error) => Err(format!(
            "{path}: {error}; a kernel with CONFIG_DEBUG_INFO_BTF has it"
        )),
    }
}

fn io_uring() -> Found {
    let bell = EventFd::new().map_err(|error| error.to_string())?;
    let Err(refused) = UringRing::new(Wake::none(), bell) else {
        return Ok("yes".to_owned());
    };
    let error = refused.error;
    let why = match number("/proc/sys/kernel/io_uring_disabled") {
        Some(1..) => "kernel.io_uring_disabled is set; 0 allows it",
        Some(0) | None => {
            "the container's seccomp profile or the kernel has none; a profile that allows \
             io_uring_setup, io_uring_enter and io_uring_register cures the first"
        }
    };
    Err(format!("{error}: {why}"))
}

fn seccomp() -> Found {
    match fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail") {
        Ok(actions) if actions.contains("errno") => Ok("yes".to_owned()),
        Ok(_) | Err(_) => Err("the kernel has no CONFIG_SECCOMP_FILTER".to_owned()),
    }
}

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Instances and watches of this user; processes that may not be looked into count as none.
fn inotify_use() -> (u64, u64) {
    let user = rustix::process::geteuid().as_raw();
    let (mut instances, mut watches) = (0, 0);
    for process in list(Path::new("/proc")) {
        if !fs::metadata(&process).is_ok_and(|found| found.uid() == user) {
            continue;
        }
        for descriptor in list(&process.join("fd")) {
            let link = fs::read_link(&descriptor).unwrap_or_default();
            let Some(name) = descriptor.file_name() else {
                continue;
            };
            if !link.as_os_str().to_string_lossy().contains("inotify") {
                continue;
            }
            let page = fs::read_to_string(process.join("fdinfo").join(name)).unwrap_or_default();
            let lines = page.lines().filter(|line| line.starts_with("inotify wd:"));
            instances += 1;
            watches += lines.count() as u64;
        }
    }
    (instances, watches)
}

/// What a directory holds; nothing when it cannot be listed.
fn list(dir: &Path) -> impl Iterator<Item = std::path::PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    entries.filter_map(|entry| entry.ok().map(|entry| entry.path()))
}
