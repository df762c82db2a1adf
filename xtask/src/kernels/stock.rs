//! Debian's stock kernels: downloaded once, unpacked beside each other, never installed.
//!
//! 1. A kernel appears in the cache by rename, so that a cut-off download is never taken for one.
//! 2. A cached kernel of the wanted series is used without asking the network.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::packages::{output, run};

/// An unpacked kernel.
#[derive(Debug)]
pub(super) struct Kernel {
    /// Its release, as `uname -r` says.
    pub(super) release: String,
    folder: PathBuf,
}

/// The folder of all of them.
pub(super) fn cache() -> Result<PathBuf> {
    let base = env::var_os("XDG_CACHE_HOME")
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME is set")?;
    let folder = base.join("tailwake/kernels");
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    Ok(folder)
}

impl Kernel {
    /// The newest cached kernel of the series ("6.12"), or the newest that apt has.
    pub(super) fn obtain(series: &str) -> Result<Self> {
        let cache = cache()?;
        let names = fs::read_dir(&cache)?.flatten().map(|e| e.file_name());
        let cached = names.filter_map(|name| name.into_string().ok());
        if let Some(release) = newest(cached, series) {
            return Ok(Self {
                folder: cache.join(&release),
                release,
            });
        }
        let known = output(Command::new("apt-cache").args(["pkgnames", "linux-image-"]))?;
        let known = known
            .lines()
            .filter_map(|line| line.strip_prefix("linux-image-"));
        let release = newest(known.map(str::to_owned), series)
            .with_context(|| format!("apt knows no kernel {series}.*-amd64 (apt-get update?)"))?;
        Self::fetch(&cache, release)
    }

    fn fetch(cache: &Path, release: String) -> Result<Self> {
        let part = cache.join(format!("{release}.part-{}", std::process::id()));
        fs::create_dir_all(&part)?;
        eprintln!("fetching linux-image-{release}");
        run(Command::new("apt-get")
            .current_dir(&part)
            .args(["-qq", "-o", "APT::Sandbox::User=root", "download"])
            .arg(format!("linux-image-{release}")))?;
        let packages = fs::read_dir(&part)?.flatten().map(|entry| entry.path());
        let package = packages
            .filter(|path| path.extension().is_some_and(|e| e == "deb"))
            .last()
            .context("apt-get download left no package")?;
        run(Command::new("dpkg").arg("-x").arg(&package).arg(&part))?;
        fs::remove_file(&package)?;
        run(Command::new("depmod").arg("-b").arg(&part).arg(&release))?;
        let folder = cache.join(&release);
        fs::rename(&part, &folder).with_context(|| format!("move to {}", folder.display()))?;
        Ok(Self { release, folder })
    }

    /// Since 6.6 there is kernel.io_uring_disabled (Documentation/admin-guide/sysctl/kernel.rst).
    pub(super) fn can_refuse_io_uring(&self) -> bool {
        numbers(&self.release) >= vec![6, 6]
    }

    pub(super) fn image(&self) -> PathBuf {
        self.folder
            .join("boot")
            .join(format!("vmlinuz-{}", self.release))
    }

    /// The wanted modules with all they need, in loading order, unpacked. Those not found are built
    /// in.
    pub(super) fn modules(&self, wanted: &[&str]) -> Result<Vec<(String, Vec<u8>)>> {
        let root = self.folder.join("lib/modules").join(&self.release);
        let table = fs::read_to_string(root.join("modules.dep")).context("read modules.dep")?;
        let mut order: Vec<&str> = Vec::new();
        for name in wanted {
            let Some((path, needs)) = table
                .lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(path, _)| stem(path) == *name)
            else {
                continue;
            };
            for module in needs.split_whitespace().rev().chain([path]) {
                if !order.contains(&module) {
                    order.push(module);
                }
            }
        }
        order
            .into_iter()
            .map(|path| Ok((format!("{}.ko", stem(path)), load(&root.join(path))?)))
            .collect()
    }
}

fn stem(path: &str) -> &str {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split('.').next().unwrap_or(file)
}

fn load(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_none_or(|e| e != "xz") {
        return fs::read(path).with_context(|| format!("read {}", path.display()));
    }
    let unpacked = Command::new("xz")
        .arg("-dc")
        .arg(path)
        .output()
        .context("start xz")?;
    ensure!(
        unpacked.status.success(),
        "xz -dc {} failed",
        path.display()
    );
    Ok(unpacked.stdout)
}

/// The highest release of the series with Debian's plain flavour.
fn newest(releases: impl Iterator<Item = String>, series: &str) -> Option<String> {
    let prefix = format!("{series}.");
    releases
        .filter(|r| r.starts_with(&prefix) && r.ends_with("-amd64"))
        .filter(|r| !r.contains("cloud") && !r.contains("rt-") && !r.contains(".part"))
        .max_by_key(|r| numbers(r))
}

fn numbers(release: &str) -> Vec<u64> {
    let version = release.trim_end_matches("-amd64");
    version
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|n| n.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_plain_kernel_of_a_series() {
        let all = [
            "6.12.99+deb12-amd64",
            "6.12.117+deb12-amd64",
            "6.12.118+deb12-cloud-amd64",
            "6.12.118+deb12-rt-amd64",
            "6.12.118+deb12-amd64-unsigned",
            "6.1.0-56-amd64",
        ];
        let newest = |series| newest(all.iter().map(|s| (*s).to_owned()), series);
        assert_eq!(newest("6.12").as_deref(), Some("6.12.117+deb12-amd64"));
        assert_eq!(newest("6.1").as_deref(), Some("6.1.0-56-amd64"));
        assert_eq!(newest("5.10"), None);
    }
}
