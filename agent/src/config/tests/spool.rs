//! An output's spool, good and bad.

use super::*;
use crate::plan::{AtCap, DiskSpool, Spool};

fn spooling(kind: &str, spool: &str) -> String {
    format!(
        "inputs: {{pods: {{pods: {{}}}}}}\nlimits: {{memory: 128MiB}}\npipelines: {{p: {{from: pods, to: out}}}}\n\
         outputs: {{out: {{{kind}, spool: {spool}}}}}\n"
    )
}

const LOKI: &str = "loki: {url: http://h/push}";
const SEARCH: &str = "elasticsearch: {urls: [http://h], index: logs}";

#[test]
fn a_spool_is_read_printed_and_read_again() {
    let disk = |at_cap, live_share, adopt: Option<&str>| {
        Spool::Disk(DiskSpool {
            bytes_max: crate::base::size::ByteSize(1 << 30),
            at_cap,
            live_share,
            adopt: adopt.map(str::to_owned),
        })
    };
    for (kind, text, want) in [
        (LOKI, "{disk: 1GiB}", disk(AtCap::Wait, 0, None)),
        (SEARCH, "{disk: 1GiB}", disk(AtCap::Wait, 50, None)),
        (
            LOKI,
            "{disk: 1GiB, at_cap: drop_oldest, live_share: 25, adopt: old}",
            disk(AtCap::DropOldest, 25, Some("old")),
        ),
        (
            SEARCH,
            "{memory: 8MiB}",
            Spool::Memory(crate::base::size::ByteSize(8 << 20)),
        ),
    ] {
        let read = plan(&spooling(kind, text));
        assert_eq!(read.outputs[0].spool, want, "{text}");
        let again = plan(&print::yaml(&read));
        assert_eq!(again.outputs[0].spool, want, "{text}");
    }
}

#[test]
fn a_bad_spool_is_told_with_its_cure() {
    for (spool, cause, cure) in [
        (
            "{at_cap: wait}",
            "`spool` needs `disk` or `memory`",
            "add for example `disk: 10GiB`",
        ),
        (
            "{disk: 1GiB, memory: 1MiB}",
            "the spool is in memory and on the disk",
            "keep `disk`, which outlives a restart, or `memory`",
        ),
        (
            "{memory: 1MiB, at_cap: drop_oldest}",
            "`at_cap` has no meaning for a spool in memory",
            "leave it out, or write `disk`",
        ),
        (
            "{disk: 1MiB}",
            "`disk` is out of range: `1MiB`",
            "it may be from 16MiB",
        ),
        (
            "{disk: 1GiB, at_cap: drop}",
            "`at_cap` does not know `drop`",
            "drop_",
        ),
        (
            "{disk: 1GiB, live_share: 100}",
            "`live_share` is out of range: `100`",
            "it may be from 0 to 90",
        ),
    ] {
        let said = refused(&spooling(LOKI, spool));
        assert!(
            said.contains(cause) && said.contains(cure),
            "{spool}:\n{said}"
        );
    }
}
