//! The limit of descriptors, raised as far as the system allows: each open log file takes one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard one and says so.
pub(super) fn raise() {
    let before = getrlimit(Resource::Nofile);
    let after = Rlimit {
        current: before.maximum,
        maximum: before.maximum,
    };
    let say = |limit: Option<u64>| limit.map_or("none".to_owned(), |limit| limit.to_string());
    match setrlimit(Resource::Nofile, after) {
        Ok(()) => tracing::info!(
            before = say(before.current),
            now = say(after.current),
            "descriptor limit (RLIMIT_NOFILE)"
        ),
        Err(error) => tracing::warn!(%error, limit = say(before.current),
            "cannot raise RLIMIT_NOFILE; each open log file takes a descriptor"),
    }
}
