//! Landlock: which files can be opened, and which TCP ports connected to.
//!
//! ```text
//! read:  log roots, what `Confines::read` lists        write: the state directory
//! connect: ports of outputs, their proxies and token endpoints, and 53
//! bind, device ioctl, foreign signals: nothing
//! ```
//!
//! 1. What is open already stays usable; the rules are looked at when a file is opened.
//! 2. A rule holds for the directory that was there at start. One that is removed and made anew, or
//!    mounted over, is refused until the next start, and opening its files says so.
//! 3. Paths are looked up at any place still: watching a directory and asking for sizes is not
//!    reading.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, NetPort,
    RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus,
    Scope, path_beneath_rules,
};

use super::{Confines, Mechanism, nearest};

const NAME: &str = "landlock";

/// The newest whose every right was looked at here. Later ones add nothing that is used.
const KNOWN: ABI = ABI::V6;

/// DNS goes over TCP when an answer is long.
const DNS_PORT: u16 = 53;

/// Applies it.
pub(super) fn confine(confines: &Confines) -> Mechanism {
    let roots = roots(&confines.roots);
    if let Some(root) = roots.iter().find(|root| *root == Path::new("/")) {
        let root = root.display();
        return Mechanism::lacking(
            NAME,
            format!(
                "a log root lies at or below a missing directory of {root}, so that all files would have to stay readable: not used"
            ),
        );
    }
    match try_confine(confines, &roots) {
        Ok(status) => judge(&status, confines),
        Err(error) => {
            Mechanism::refused(NAME, format!("{error}; every file stays open to the agent"))
        }
    }
}

/// The version that the kernel offers, or why none. The calling thread is left as it is.
///
/// # Errors
/// `ENOSYS` or `EOPNOTSUPP`, as a sentence.
pub fn version() -> Result<String, String> {
    // A ruleset that is made and dropped restricts nobody.
    let level = CompatLevel::HardRequirement;
    let made = |abi| {
        let mut ruleset = Ruleset::default().set_compatibility(level);
        ruleset = ruleset.handle_access(AccessFs::from_all(abi)).ok()?;
        if abi >= ABI::V4 {
            ruleset = ruleset.handle_access(AccessNet::from_all(abi)).ok()?;
        }
        if abi >= ABI::V6 {
            ruleset = ruleset.scope(Scope::from_all(abi)).ok()?;
        }
        ruleset.create().ok().map(|_| abi)
    };
    let all = [ABI::V6, ABI::V5, ABI::V4, ABI::V3, ABI::V2, ABI::V1];
    let best = all.into_iter().find_map(made);
    let best = best.ok_or("the kernel has no Landlock (Linux 5.13, `lsm=...,landlock`)")?;
    let newer = if best == KNOWN { " or newer" } else { "" };
    Ok(format!("ABI {}{newer}", best as i32))
}

fn roots(roots: &[PathBuf]) -> Vec<PathBuf> {
    let found = roots.iter().filter_map(|root| nearest(root));
    found.map(Path::to_owned).collect()
}

fn try_confine(confines: &Confines, roots: &[PathBuf]) -> Result<RestrictionStatus, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = AccessFs::WriteFile | AccessFs::Truncate | AccessFs::MakeReg | AccessFs::RemoveFile;
    let mut ports: BitFlags<AccessNet> = AccessNet::BindTcp.into();
    if confines.ports.is_some() {
        ports |= AccessNet::ConnectTcp;
    }
    let rule = |port: &u16| Ok::<_, RulesetError>(NetPort::new(*port, AccessNet::ConnectTcp));
    let open = confines.ports.iter().flatten().chain(&[DNS_PORT]);
    let open: Vec<_> = match confines.ports {
        Some(_) => open.map(rule).collect(),
        None => Vec::new(),
    };
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(ports)?
        .scope(Scope::from_all(KNOWN))?
        .create()?
        .add_rules(path_beneath_rules(roots, read))?
        .add_rules(path_beneath_rules(&confines.read, read))?
        .add_rules(path_beneath_rules([&confines.state], read | write))?
        .add_rules(open)?
        .restrict_self()
}

fn judge(status: &RestrictionStatus, confines: &Confines) -> Mechanism {
    let abi = match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => effective_abi as i32,
        LandlockStatus::NotEnabled => {
            let said = "the kernel was booted without it (`lsm=...,landlock`); every file stays open to the agent";
            return Mechanism::lacking(NAME, said);
        }
        LandlockStatus::NotImplemented => {
            let said = "the kernel has none (Linux 5.13); every file stays open to the agent";
            return Mechanism::lacking(NAME, said);
        }
    };
    let state = confines.state.display();
    let net = match &confines.ports {
        Some(ports) if abi >= ABI::V4 as i32 => format!("connects to ports {ports:?} and 53"),
        Some(_) => "connects to any port (Linux 6.7 could bound it)".to_owned(),
        None => "connects to any port".to_owned(),
    };
    let said = format!(
        "ABI {abi}: reads the log roots and what the resolver and TLS need, writes below {state}, {net}"
    );
    match status.ruleset {
        RulesetStatus::FullyEnforced => Mechanism::holds(NAME, said),
        RulesetStatus::PartiallyEnforced => Mechanism::lacking(
            NAME,
            format!("{said}; the kernel knows a part of the rules only"),
        ),
        RulesetStatus::NotEnforced => Mechanism::refused(NAME, "nothing was enforced"),
    }
}
