//! What the agent must still reach once it has started: the guard's confines, from the plan.
//!
//! 1. The resolver reads its files at every look-up, and the directory of a linked one is listed
//!    too, since it is replaced by renaming.
//! 2. So is the directory of what a kubeconfig names, and the mount of a pod's token.
//! 3. A file that is replaced by renaming in a directory that is not listed (`/etc` itself holds
//!    `shadow`) is refused until the next start.
//! 4. Files of outputs (tokens, certificates) are read again through their directories; ports of
//!    proxies and token endpoints stay open beside the outputs'.

use std::path::{Path, PathBuf};

use http::Uri;

use super::threads;
use crate::deliver;
use crate::guard::Confines;
use crate::plan::Plan;

/// What glibc's resolver reads.
const RESOLVER: [&str; 6] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/services",
];

/// Its modules, which are loaded at the first look-up.
const LIBRARIES: [&str; 6] = [
    "/etc/ld.so.cache",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
];

/// Where distributions keep authorities; links between them lead to one another.
const AUTHORITIES: [&str; 6] = [
    "/etc/ssl",
    "/etc/pki",
    "/etc/ca-certificates",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/usr/share/pki",
];

/// Variables that name others.
const AUTHORITY_VARIABLES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// aya asks how many CPUs there may be at each look into a map by CPU; the C library asks for its
/// arenas.
const MACHINE: [&str; 1] = ["/sys/devices/system/cpu"];

/// The confines of a plan.
pub(super) fn confines(plan: &Plan) -> Confines {
    let mut read: Vec<PathBuf> = Vec::new();
    let fixed = RESOLVER.iter().chain(&LIBRARIES).chain(&AUTHORITIES);
    read.extend(fixed.chain(&MACHINE).map(PathBuf::from));
    read.extend(RESOLVER.iter().filter_map(|file| linked_directory(file)));
    let named = AUTHORITY_VARIABLES.iter().filter_map(std::env::var_os);
    read.extend(named.map(PathBuf::from));
    let files = plan.outputs.iter().flat_map(|output| output.http.files());
    read.extend(files.flat_map(|(_, file)| changing(file)));
    let reach = plan.kubernetes().map(crate::kube::reach);
    read.extend(reach.iter().flat_map(|reach| reach.read.clone()));
    // A panic's backtrace names functions by it.
    read.extend(std::env::current_exe());
    Confines {
        read,
        roots: threads::roots(plan),
        state: plan.state.clone(),
        ports: ports(plan).and_then(|mut ports| {
            if let Some(reach) = reach {
                ports.push(reach.port?);
            }
            Some(ports)
        }),
    }
}

/// The directory that a linked file lies in, unless that is `/etc` or the root.
fn linked_directory(file: &str) -> Option<PathBuf> {
    let target = std::fs::canonicalize(file).ok()?;
    let parent = target.parent()?;
    (!is_wide(parent)).then(|| parent.to_owned())
}

/// What must stay readable for a file that is read again when it changes: its directory, where a new
/// file takes its place by renaming or a projected volume swaps its links, and the directory that
/// its links lead to. `/etc` and the root are not opened as a whole: there it is the file alone.
fn changing(file: &Path) -> Vec<PathBuf> {
    let parent = file.parent().filter(|parent| !is_wide(parent));
    let own = parent.map_or(file, |parent| parent);
    let target = file.to_str().and_then(linked_directory);
    std::iter::once(own.to_owned()).chain(target).collect()
}

fn is_wide(directory: &Path) -> bool {
    [Path::new("/etc"), Path::new("/")].contains(&directory)
}

/// The ports of outputs, proxies and token endpoints; `None` when one cannot be told.
fn ports(plan: &Plan) -> Option<Vec<u16>> {
    let urls = plan.outputs.iter().flat_map(|output| output.urls());
    let own = |url: &String| deliver::port(&url.parse::<Uri>().ok()?);
    let mut ports = urls.map(own).collect::<Option<Vec<u16>>>()?;
    ports.extend(plan.outputs.iter().flat_map(deliver::further_ports));
    ports.sort_unstable();
    ports.dedup();
    Some(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_the_urls_or_its_schemes() {
        let port = |url: &str| url.parse().ok().as_ref().and_then(deliver::port);
        assert_eq!(port("http://u:p@loki:3100/loki/api/v1/push"), Some(3100));
        assert_eq!(port("https://loki/push"), Some(443));
        assert_eq!(port("http://[::1]"), Some(80));
        assert_eq!(port("unix:/run/loki"), None);
    }

    #[test]
    fn a_file_that_changes_opens_its_directory_but_for_those_that_hold_everything() {
        let opened = |file: &str| changing(Path::new(file));
        let directory = PathBuf::from("/nowhere/secrets");
        assert_eq!(opened("/nowhere/secrets/token"), [directory]);
        assert_eq!(opened("/etc/none"), [PathBuf::from("/etc/none")]);
    }

    #[test]
    fn a_file_of_etc_itself_opens_no_directory() {
        assert_eq!(linked_directory("/etc/passwd"), None);
    }
}
