//! What was deleted before it was read: counted by output, and said by container log.

use std::sync::Arc;

use crate::base::count::Registry;
use crate::ledger::{Forgotten, UnreadCount};

/// Logs that are named in messages of their own; of the others the sum is said.
const NAMED_MAX: usize = 20;

/// What is counted.
#[derive(Debug)]
pub(super) struct Unread {
    registry: Arc<Registry>,
}

impl Unread {
    /// Counters in `registry`.
    pub(super) fn new(registry: &Arc<Registry>) -> Self {
        let registry = Arc::clone(registry);
        Self { registry }
    }

    /// Counts and says what was forgotten.
    pub(super) fn tell(&self, forgotten: &Forgotten) {
        if forgotten.files > 0 {
            tracing::info!(
                files = forgotten.files,
                "forgot positions of files that were deleted while the agent was down"
            );
        }
        for lost in &forgotten.unread {
            let count = UnreadCount::new(&self.registry, &lost.output);
            count.files.add(lost.files);
            count.bytes.add(lost.bytes);
        }
        for lost in forgotten.unread.iter().take(NAMED_MAX) {
            tracing::error!(log = %lost.log, output = %lost.output, files = lost.files, bytes = lost.bytes,
                "files were deleted before they were read, while the agent was down: their lines are \
                 lost to this output. Raise kubelet's containerLogMaxSize or containerLogMaxFiles, or \
                 mend the output");
        }
        let rest = forgotten.unread.get(NAMED_MAX..).unwrap_or_default();
        if !rest.is_empty() {
            let bytes: u64 = rest.iter().map(|lost| lost.bytes).sum();
            tracing::error!(
                logs = rest.len(),
                bytes,
                "more container logs were deleted before they were read; the metrics have the sums"
            );
        }
    }
}
