//! `cargo xtask sim`: seeds and scenarios of the simulator, and the defences: patches that break the
//! agent in one place each, and must turn it red.
//!
//! ```text
//! tracked files -> target/defences/tree --patch--> build -> its scenarios -> each red, or it is named
//! ```
//!
//! 1. A patch that does not apply or does not compile is an error, never a red.
//! 2. A patch begins with `Covers: R1, R8`: each of these scenarios must turn red. One that covers none
//!    must be found by 200 seeds, one that covers `loom` by a model of `tests/loom`. Every scenario is covered by some patch.
//! 3. The scratch copy is written only where it differs, and has a target directory of its own, so
//!    that dependencies are built once and each patch builds the agent alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::build::{self, root};
use crate::tests::cargo;

/// Seeds within which a patch must be found.
const SEEDS: &str = "200";

/// Covered by patches that the models of `tests/loom` must find.
const MODELS: &str = "loom";

/// `sim`'s exit code for a seed that failed; a panic or a bad command line has another.
const FAILED: i32 = 3;

/// The arguments of `cargo xtask sim`.
#[derive(Debug, Clone, clap::Args)]
pub struct Sim {
    /// How many seeds to run.
    #[arg(long, default_value_t = 200)]
    pub seeds: u64,
    /// Replay this one with its trace.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Play this scenario, with `--seed` one seed of it with its trace.
    #[arg(long, value_name = "R7")]
    pub scenario: Option<String>,
    /// Play all scenarios.
    #[arg(long)]
    pub scenarios: bool,
    /// Say what the scenarios are.
    #[arg(long)]
    pub list: bool,
    /// Apply each patch of tests/defences to a copy and demand that it is found.
    #[arg(long)]
    pub defences: bool,
    /// Of the defences, only those whose name holds this word.
    #[arg(long, value_name = "WORD")]
    pub only: Option<String>,
}

/// Runs seeds, one seed, or the defences.
///
/// # Errors
/// A seed failed, or a patch was not found.
pub fn run(sim: &Sim) -> Result<()> {
    let seed = sim.seed.map(|seed| seed.to_string());
    match (&sim.scenario, seed) {
        _ if sim.defences => defend_all(sim.only.as_deref().unwrap_or_default()),
        _ if sim.list => play(&["--list"]),
        _ if sim.scenarios => scenarios(),
        (Some(name), Some(seed)) => play(&["--scenario", name, "--seed", &seed]),
        (Some(name), None) => play(&["--scenario", name]),
        (None, Some(seed)) => play(&["--seed", &seed]),
        (None, None) => seeds(sim.seeds),
    }
}

/// Plays all scenarios.
///
/// # Errors
/// One failed.
pub fn scenarios() -> Result<()> {
    play(&["--scenarios"])
}

/// Runs the seeds below `seeds`.
///
/// # Errors
/// A seed failed.
pub fn seeds(seeds: u64) -> Result<()> {
    play(&["--seeds", &seeds.to_string()])
}

fn play(words: &[&str]) -> Result<()> {
    let run = ["run", "-q", "-p", "sim", "--"];
    cargo(&[&run[..], words].concat())
}

/// Demands that each patch turns the simulator red, and that each scenario is covered.
///
/// # Errors
/// Names the patch that does not apply, does not compile, or is not found.
pub fn defences() -> Result<()> {
    defend_all("")
}

fn defend_all(word: &str) -> Result<()> {
    let scratch = Scratch::new()?;
    let mut patches: Vec<PathBuf> = fs::read_dir(root().join("tests/defences"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    patches.retain(|patch| {
        let name = patch.file_name().unwrap_or_default();
        name.to_string_lossy().contains(word)
    });
    patches.sort();
    if patches.is_empty() {
        bail!("no patch in tests/defences");
    }
    let (mut table, mut wrong) = (String::new(), Vec::new());
    let mut covered = Vec::new();
    for patch in &patches {
        let name = patch.file_stem().unwrap_or_default().to_string_lossy();
        eprintln!("=== {name}");
        let begun = Instant::now();
        covered.extend(covers(patch)?);
        let said = match scratch.defend(patch) {
            Ok(red) => format!("red: {red}"),
            Err(error) => {
                wrong.push(format!("{}: {error:#}", patch.display()));
                "NOT FOUND".to_owned()
            }
        };
        let took = begun.elapsed().as_secs_f64();
        table.push_str(&format!("{name:<40} {took:>6.1} s  {said}\n"));
    }
    eprintln!("\n{table}");
    let names = scratch.names()?;
    let open = names.iter().filter(|name| !covered.contains(name));
    let open: Vec<&str> = open.map(String::as_str).collect();
    if word.is_empty() && !open.is_empty() {
        wrong.push(format!("no patch covers {}", open.join(", ")));
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(())
}

/// The scenarios that a patch's first line names.
fn covers(patch: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(patch).with_context(|| format!("read {}", patch.display()))?;
    let first = text.lines().next().unwrap_or_default();
    let names = first.strip_prefix("Covers: ").unwrap_or_default();
    let names = names.split(", ").filter(|name| !name.is_empty());
    Ok(names.map(str::to_owned).collect())
}

/// A copy of the tracked tree.
struct Scratch {
    home: PathBuf,
    tree: PathBuf,
}

impl Scratch {
    fn new() -> Result<Self> {
        let home = root().join("target/defences");
        let tree = home.join("tree");
        fs::create_dir_all(&tree).with_context(|| format!("make {}", tree.display()))?;
        let scratch = Self { home, tree };
        scratch.fill()?;
        Ok(scratch)
    }

    /// Brings the copy to what the tracked files say now.
    fn fill(&self) -> Result<()> {
        let listed = Command::new("git")
            .current_dir(root())
            .args(["ls-files", "-z"])
            .output()
            .context("git ls-files")?;
        if !listed.status.success() {
            bail!("git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
        }
        let listed = String::from_utf8(listed.stdout).context("git ls-files")?;
        for name in listed.split('\0').filter(|name| !name.is_empty()) {
            let (from, to) = (root().join(name), self.tree.join(name));
            // A tracked file may be deleted and not committed yet.
            let Ok(bytes) = fs::read(&from) else { continue };
            if fs::read(&to).is_ok_and(|have| have == bytes) {
                continue;
            }
            if let Some(dir) = to.parent() {
                fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
            }
            fs::write(&to, bytes).with_context(|| format!("write {}", to.display()))?;
        }
        Ok(())
    }

    /// Says which seeds turned red and why.
    fn defend(&self, patch: &Path) -> Result<String> {
        self.fill()?;
        let applied = Command::new("git")
            .current_dir(&self.tree)
            // The copy lies inside of the repository and is not part of it.
            .env("GIT_CEILING_DIRECTORIES", &self.home)
            .arg("apply")
            .arg(patch)
            .output()
            .context("git apply")?;
        if !applied.status.success() {
            let why = String::from_utf8_lossy(&applied.stderr).into_owned();
            bail!("does not apply any more: {why}");
        }
        let covered = covers(patch)?;
        if covered.iter().any(|name| name == MODELS) {
            return self.models();
        }
        let target = self.home.join("build");
        let built = Command::new(build::cargo())
            .current_dir(&self.tree)
            .env("CARGO_TARGET_DIR", &target)
            // Nobody debugs these, and half of a build was writing it down.
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .args(["build", "-q", "-p", "sim"])
            .status()
            .context("cargo build")?;
        if !built.success() {
            bail!("does not compile");
        }
        if covered.is_empty() {
            return self.red(&["--seeds", SEEDS, "--first"]);
        }
        let mut said = Vec::new();
        for name in &covered {
            said.push(self.red(&["--scenario", name, "--first"])?);
        }
        Ok(said.join("; "))
    }

    /// Demands that a model of `tests/loom` turns red, and says which.
    fn models(&self) -> Result<String> {
        let cargo = |words: &[&str]| {
            Command::new(build::cargo())
                .current_dir(&self.tree)
                .env("CARGO_TARGET_DIR", self.home.join("build"))
                .args(["test", "-q", "-p", "meet"])
                .args(words)
                .output()
                .context("cargo test")
        };
        if !cargo(&["--no-run"])?.status.success() {
            bail!("does not compile");
        }
        let played = cargo(&[])?;
        let said = String::from_utf8_lossy(&played.stdout).into_owned();
        let failed = said
            .lines()
            .find_map(|line| line.strip_suffix(" --- FAILED"));
        match failed {
            Some(name) if !played.status.success() => Ok(format!("model {name}")),
            _ => bail!("the models did not find it"),
        }
    }

    fn simulator(&self) -> Command {
        Command::new(self.home.join("build/debug/sim"))
    }

    /// The names of all scenarios.
    fn names(&self) -> Result<Vec<String>> {
        let listed = self.simulator().arg("--list").output();
        let listed = listed.context("list the scenarios")?;
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let names = listed.lines().filter_map(|line| line.split(' ').next());
        Ok(names.map(str::to_owned).collect())
    }

    /// Says what turned red, and why.
    fn red(&self, words: &[&str]) -> Result<String> {
        let played = self.simulator().args(words).output();
        let played = played.context("run the simulator")?;
        let said = String::from_utf8_lossy(&played.stdout);
        let first = said.lines().next().unwrap_or_default();
        match played.status.code() {
            Some(FAILED) => Ok(first.chars().take(90).collect()),
            Some(0) => bail!("`{}` did not find it", words.join(" ")),
            other => bail!("the simulator ended with {other:?}: {said}"),
        }
    }
}
