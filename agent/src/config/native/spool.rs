//! An output's spool.

use super::keys;
use super::names;
use crate::base::size::ByteSize;
use crate::config::diagnostics::Report;
use crate::config::fields::Fields;
use crate::config::tree::Node;
use crate::plan::{AtCap, DiskSpool, OutputKind, Spool};

const AT_CAP: [(&str, AtCap); 3] = [
    ("wait", AtCap::Wait),
    ("drop_oldest", AtCap::DropOldest),
    ("drop_newest", AtCap::DropNewest),
];

/// Fewer bytes would be some segments only.
const DISK_MIN: u64 = 16 << 20;

/// Percent that live requests have at the most: a backlog must come to an end.
const LIVE_SHARE_MAX: u64 = 90;

/// Reads `spool`; without it there is none.
pub(super) fn spool(node: Option<&Node>, kind: &OutputKind, report: &mut Report<'_>) -> Spool {
    let Some(node) = node else {
        return Spool::Off;
    };
    let map = Fields::open(node, &keys::SPOOL, report);
    match (map.get("memory"), map.get("disk")) {
        (Some(_), None) => {
            for name in ["at_cap", "live_share", "adopt"] {
                if let Some(node) = map.get(name) {
                    report.error(
                        node.span,
                        format!("`{name}` has no meaning for a spool in memory"),
                        "leave it out, or write `disk` in place of `memory`",
                    );
                }
            }
            Spool::Memory(map.size("memory", ByteSize(0), 1 << 10..=16 << 30, report))
        }
        (None, Some(_)) => {
            // Loki takes no entry that is an hour older than the newest of its stream.
            let default = match kind {
                OutputKind::Loki(_) => 0,
                OutputKind::Elasticsearch(_) => 50,
            };
            let share = map.number("live_share", 0..=LIVE_SHARE_MAX, report);
            let adopt = map.text("adopt", report);
            if let (Some(node), Some(text)) = (map.get("adopt"), adopt) {
                names::name(text, node.span, report);
            }
            Spool::Disk(DiskSpool {
                bytes_max: map.size("disk", ByteSize(DISK_MIN), DISK_MIN..=1 << 50, report),
                at_cap: map.choice("at_cap", &AT_CAP, AtCap::Wait, report),
                live_share: share
                    .and_then(|it| u8::try_from(it).ok())
                    .unwrap_or(default),
                adopt: adopt.map(str::to_owned),
            })
        }
        (Some(_), Some(second)) => {
            report.error(
                second.span,
                "the spool is in memory and on the disk",
                "keep `disk`, which outlives a restart, or `memory`",
            );
            Spool::Off
        }
        (None, None) => {
            report.error(
                map.span,
                "`spool` needs `disk` or `memory`",
                "add for example `disk: 10GiB`, or leave `spool` out",
            );
            Spool::Off
        }
    }
}
