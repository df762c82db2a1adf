//! Chooses the rung: the best that loads, and why not a better one.
//!
//! 1. Everything is attached here, once; no privilege is needed afterwards.
//! 2. A rung that is wanted by name is tried alone; when it does not load, inotify serves, and the
//!    report says so.

use std::fmt;
use std::path::PathBuf;

use agent_ebpf::READERS_MAX;
use aya::Btf;

use super::btf::Types;
use super::ebpf::{self, Ear};
use super::inotify::Inotify;
use super::kind::FileSystems;
use super::preempt;
use super::{Rung, Wake};
use crate::plan::RungChoice;

/// A rung above the chosen one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Which.
    pub rung: Rung,
    /// Why it did not load, and the cure.
    pub why: String,
}

/// What was chosen; printed at start and shown by /status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The rung all readers stand on.
    pub rung: Rung,
    /// The better ones, best first.
    pub skipped: Vec<Skipped>,
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "wake rung {}", self.rung.name())?;
        for Skipped { rung, why } in &self.skipped {
            write!(out, "; not {}: {why}", rung.name())?;
        }
        Ok(())
    }
}

/// The ladder.
#[derive(Debug)]
pub struct Ladder;

impl Ladder {
    /// One wake source per reader, all on one rung, and the report.
    #[must_use]
    pub fn choose(
        want: RungChoice,
        roots: &[PathBuf],
        readers: usize,
        files_max: u32,
    ) -> (Vec<Wake>, Report) {
        let readers = readers.max(1);
        let wanted = wanted(want);
        let mut skipped = Vec::new();
        let probes = wanted.iter().copied().filter(|r| *r < Rung::Inotify);
        let ears = probe(probes.collect(), roots, (readers, files_max), &mut skipped);
        let mut wakes = Vec::with_capacity(readers);
        let mut ears = ears.into_iter();
        for _ in 0..readers {
            let inotify = if want == RungChoice::Sweep {
                None
            } else {
                instance(&mut skipped)
            };
            wakes.push(Wake::new(ears.next(), inotify));
        }
        let rung = wakes
            .iter()
            .map(Wake::rung)
            .max()
            .unwrap_or(Rung::SweepOnly);
        (wakes, Report { rung, skipped })
    }
}

/// The best of `rungs` that loads, an ear per reader; none when no rung does.
fn probe(
    rungs: Vec<Rung>,
    roots: &[PathBuf],
    (readers, files_max): (usize, u32),
    skipped: &mut Vec<Skipped>,
) -> Vec<Ear> {
    if rungs.is_empty() {
        return Vec::new();
    }
    let mut skip = |rung, why| skipped.push(Skipped { rung, why });
    let mut ears = Vec::new();
    match Ground::find(roots, readers) {
        Err(why) => rungs.into_iter().for_each(|rung| skip(rung, why.clone())),
        Ok(ground) => {
            for rung in rungs {
                match ground.load(rung, readers, files_max) {
                    Ok(loaded) => {
                        ears = loaded;
                        break;
                    }
                    Err(error) => skip(rung, reason(&error)),
                }
            }
        }
    }
    ebpf::give_back();
    ears
}

fn wanted(want: RungChoice) -> &'static [Rung] {
    match want {
        RungChoice::Auto => &Rung::ALL,
        RungChoice::Fexit => &[Rung::FexitPerformWrite],
        RungChoice::TpBtf => &[Rung::TracepointBtf],
        RungChoice::RawTp => &[Rung::RawTracepoint],
        RungChoice::Inotify | RungChoice::Sweep => &[],
    }
}

fn instance(skipped: &mut Vec<Skipped>) -> Option<Inotify> {
    match Inotify::new() {
        Ok(inotify) => Some(inotify),
        Err(error) => {
            let why = format!("inotify: {error}; raise fs.inotify.max_user_instances");
            if skipped.iter().all(|s| s.rung != Rung::Inotify) {
                skipped.push(Skipped {
                    rung: Rung::Inotify,
                    why,
                });
            }
            None
        }
    }
}

/// What every probe rung needs.
struct Ground {
    roots: Vec<PathBuf>,
    btf: Btf,
    types: Types,
}

impl Ground {
    fn find(roots: &[PathBuf], readers: usize) -> Result<Self, String> {
        if !ebpf::is_embedded() {
            return Err(
                "this binary was built without probes; cargo xtask build embeds them".into(),
            );
        }
        if readers > READERS_MAX {
            return Err(format!("{readers} readers, the probes serve {READERS_MAX}"));
        }
        let types = Types::of_kernel().map_err(|e| e.to_string())?;
        let btf = Btf::from_sys_fs().map_err(|e| e.to_string())?;
        Ok(Self {
            roots: roots.to_owned(),
            btf,
            types,
        })
    }

    fn load(&self, rung: Rung, readers: usize, files_max: u32) -> anyhow::Result<Vec<Ear>> {
        if rung == Rung::FexitPerformWrite
            && let Some(why) = preempt::why_not_trampolines()
        {
            anyhow::bail!(why);
        }
        let readers = u32::try_from(readers)?;
        let systems = FileSystems::under(&self.roots);
        ebpf::load(rung, systems, (readers, files_max), &self.btf, &self.types)
    }
}

/// The causes in one line, and the cure where one is known.
fn reason(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        // The verifier's output follows, empty when the load was refused before it ran.
        let cause = cause.split("Verifier output").next().unwrap_or_default();
        let cause = cause
            .lines()
            .next()
            .unwrap_or_default()
            .trim()
            .trim_end_matches('.');
        if !cause.is_empty() && !text.contains(cause) {
            let colon = if text.is_empty() { "" } else { ": " };
            text.push_str(colon);
            text.push_str(cause);
        }
    }
    let denied = error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::raw_os_error)
            == Some(rustix::io::Errno::PERM.raw_os_error())
    });
    if denied && holds_capabilities() {
        text.push_str(" (CAP_BPF and CAP_PERFMON are held: this kernel forbids the hook itself)");
    } else if denied {
        text.push_str(" (run as root, or give it CAP_BPF and CAP_PERFMON)");
    }
    text
}

/// Whether this process may load programs: CAP_SYS_ADMIN, or CAP_PERFMON and CAP_BPF.
fn holds_capabilities() -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else {
        return false;
    };
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = line
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    let has = |bit: u32| set >> bit & 1 == 1;
    has(21) || (has(38) && has(39))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_configs() {
        for rung in Rung::ALL {
            assert_eq!(Rung::named(rung.name()), Some(rung));
        }
        assert_eq!(Rung::named("kprobe"), None);
    }

    #[test]
    fn the_sweep_rung_watches_nothing() {
        let (mut wakes, report) = Ladder::choose(RungChoice::Sweep, &[], 2, 8);
        assert_eq!((wakes.len(), report.rung), (2, Rung::SweepOnly));
        let file = std::io::stdin();
        assert!(wakes[0].watch(0, &file, 1).is_err());
        assert_eq!(wakes[0].fds().count(), 0);
    }

    #[test]
    fn more_readers_than_rings_take_inotify_and_the_report_says_why() {
        let (wakes, report) = Ladder::choose(RungChoice::Auto, &[PathBuf::from("/")], 5, 8);
        assert_eq!((wakes.len(), report.rung), (5, Rung::Inotify));
        assert_eq!(report.skipped.len(), 3);
    }
}
