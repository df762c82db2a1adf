//! Go, Maven and a JDK: found, or installed when the caller allows it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// A Java home and its feature release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Jdk {
    /// The folder to put in `JAVA_HOME`.
    pub home: PathBuf,
    /// 17, 21, 25 ...
    pub release: u32,
}

/// Finds a program in PATH; installs its Debian package when `install` allows.
pub(super) fn need(program: &str, package: &str, install: bool) -> Result<PathBuf> {
    if let Some(path) = find(program) {
        return Ok(path);
    }
    if !install {
        bail!("{program} is missing: install it with `apt-get install {package}`, or pass --yes");
    }
    eprintln!("testbed: installing {package}");
    let status = Command::new("apt-get")
        .args(["install", "-y", "--no-install-recommends", package])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdout(std::io::stderr())
        .status()
        .context("run apt-get")?;
    if !status.success() {
        bail!("apt-get install {package} failed ({status})");
    }
    find(program).with_context(|| format!("{package} is installed but {program} is not in PATH"))
}

/// The newest JDK of this machine; installs Debian's default one when `install` allows.
pub(super) fn jdk(install: bool) -> Result<Jdk> {
    if let Some(jdk) = newest(&candidates()) {
        return Ok(jdk);
    }
    need("javac", "default-jdk-headless", install)?;
    newest(&candidates()).context("no JDK under JAVA_HOME or /usr/lib/jvm")
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

fn candidates() -> Vec<PathBuf> {
    let mut homes: Vec<PathBuf> = std::env::var_os("JAVA_HOME")
        .map(PathBuf::from)
        .into_iter()
        .collect();
    if let Ok(entries) = std::fs::read_dir("/usr/lib/jvm") {
        homes.extend(entries.flatten().map(|entry| entry.path()));
    }
    homes
}

fn newest(homes: &[PathBuf]) -> Option<Jdk> {
    homes
        .iter()
        .filter(|home| home.join("bin/javac").is_file())
        .filter_map(|home| {
            Some(Jdk {
                home: home.clone(),
                release: release_of(home)?,
            })
        })
        .max_by_key(|jdk| jdk.release)
}

fn release_of(home: &Path) -> Option<u32> {
    parse_release(&std::fs::read_to_string(home.join("release")).ok()?)
}

/// Reads `JAVA_VERSION="25.0.1"` of a JDK's `release` file; 1.8 is release 8.
fn parse_release(text: &str) -> Option<u32> {
    let version = text
        .lines()
        .find_map(|line| line.strip_prefix("JAVA_VERSION="))?;
    let version = version.trim_matches('"');
    let version = version.strip_prefix("1.").unwrap_or(version);
    let digits = version.bytes().take_while(u8::is_ascii_digit).count();
    version[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_file_tells_the_feature_release() {
        let table = [
            ("IMPLEMENTOR=\"x\"\nJAVA_VERSION=\"25.0.1\"\n", Some(25)),
            ("JAVA_VERSION=\"17\"", Some(17)),
            ("JAVA_VERSION=\"1.8.0_402\"", Some(8)),
            ("JAVA_VERSION=\"21-ea\"", Some(21)),
            ("nothing", None),
        ];
        for (text, want) in table {
            assert_eq!(parse_release(text), want, "{text}");
        }
    }
}
