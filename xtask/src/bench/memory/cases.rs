//! The cases of `bench memory`: their configs.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use clap::ValueEnum;

/// What is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Case {
    /// The defaults of two cores, Loki alive, Elasticsearch dead: 64 MiB at the most.
    Small,
    /// 4 readers, 16 encoders, 10 tenants of a living Loki and a dead Elasticsearch: what its formula
    /// says and 28 MiB at the most.
    Forced,
}

/// The dead output's name.
pub(super) const DEAD: &str = "dead";

/// Tenants of [`Case::Forced`]: an output each, since a Loki output has one tenant.
const TENANTS: u32 = 10;

const LABELS: &str = "{namespace: \"{namespace}\", pod: \"{pod}\", container: \"{container}\", \
                      stream: \"{stream}\"}";

impl Case {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Forced => "forced",
        }
    }

    /// Namespaces that the containers lie in: one a tenant.
    pub(super) const fn namespaces(self) -> u32 {
        match self {
            Self::Small => 1,
            Self::Forced => TENANTS,
        }
    }

    /// The agent's config.
    pub(super) fn config(
        self,
        at: &Path,
        pods: &Path,
        admin: SocketAddr,
        living: &str,
        dead: &str,
    ) -> String {
        let (state, pods) = (at.join("state"), pods.display());
        let text = format!(
            "state: \"{}\"\nadmin: {{listen: \"{admin}\"}}\ninputs:\n  pods: {{pods: {{root: \
             \"{pods}\"}}, start_at: beginning}}\n",
            state.display()
        );
        text + &match self {
            Self::Small => small(living, dead),
            Self::Forced => forced(living, dead),
        }
    }
}

/// `clamp(2 / 8, 1, 4)` readers and `clamp(2 - 1, 1, 16)` encoders, however many cores there are.
fn small(living: &str, dead: &str) -> String {
    format!(
        "limits: {{readers: 1, encoders: 1}}\npipelines:\n  pods:\n    from: [pods]\n    stages: \
         [{{cri: {{}}}}, {{json: {{fields: {{level: level}}}}}}, {{labels: [level]}}]\n    to: \
         [living, {DEAD}]\noutputs:\n  living:\n    loki: {{url: \"{living}/loki/api/v1/push\", \
         labels: {LABELS}}}\n  {DEAD}:\n    elasticsearch: {{urls: [\"{dead}\"], index: bench}}\n"
    )
}

/// Small batches and windows: with the defaults the ceiling would be so high that nothing came near.
fn forced(living: &str, dead: &str) -> String {
    let (mut stages, mut outputs) = (String::new(), String::new());
    for tenant in 0..TENANTS {
        // Writing to a string cannot fail.
        let _ = write!(
            stages,
            "\n      - match: {{selector: '{{namespace=\"bench-{tenant}\"}}', stages: [{{output: \
             tenant-{tenant}}}]}}"
        );
        let _ = write!(
            outputs,
            "  tenant-{tenant}:\n    {SIZES}\n    loki: {{url: \"{living}/loki/api/v1/push\", \
             tenant: tenant-{tenant}, labels: {LABELS}}}\n"
        );
    }
    format!(
        "limits: {{memory: 96MiB, readers: 4, encoders: 16}}\npipelines:\n  pods:\n    from: \
         [pods]\n    stages:\n      - cri: {{}}\n      - json: {{fields: {{level: level}}}}\n      - \
         labels: [level]{stages}\n    to: [{DEAD}]\noutputs:\n{outputs}  {DEAD}:\n    {SIZES}\n    \
         elasticsearch: {{urls: [\"{dead}\"], index: bench}}\n"
    )
}

const SIZES: &str = "batch_bytes: 128KiB\n    window_bytes: 1MiB";
