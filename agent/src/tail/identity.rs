//! Which file is which: numbers, birth, first bytes, and the last bytes that were read.
//!
//! 1. (device, inode) alone is no identity: ext4 gives the number of the file that was just deleted to
//!    the next one, and a truncated file keeps it.
//! 2. A file has grown, and not been replaced, when the bytes before the highest place that was read
//!    are still the same.
//! 3. Another file with the same bytes is a copy: of logrotate before it truncates, of kubelet when it
//!    compresses.

use std::io;

use xxhash_rust::xxh3::xxh3_64;

use crate::base::files::{Files, Stat};
use crate::ledger::Identity;

/// First bytes that a file is told by. Container runtimes begin each line with a time to the
/// nanosecond, so that a few lines tell two files apart.
pub const HEAD_BYTES: usize = 1024;

/// Bytes before the highest place read that a file is told by. A container runtime's line is told by
/// its time, which these hold in all but the longest lines; what they miss the first bytes find.
pub const LAST_BYTES: usize = 64;

/// Reads at an offset, inflated where the file is compressed.
pub(super) type ReadAt<'a> = dyn FnMut(u64, &mut [u8]) -> io::Result<usize> + 'a;

/// The identity of a file just opened: `stat` and a hash of its first bytes.
///
/// # Errors
/// The system's: which file it is, is not known then.
pub(super) fn identify(read: &mut ReadAt<'_>, stat: &Stat) -> io::Result<Identity> {
    let mut identity = Identity {
        device: stat.device,
        inode: stat.inode,
        born_ns: stat.born_ns,
        ..Identity::default()
    };
    grow(read, &mut identity)?;
    Ok(identity)
}

/// Takes in first bytes that were not there before.
///
/// # Errors
/// The system's: the identity is as it was.
pub(super) fn grow(read: &mut ReadAt<'_>, identity: &mut Identity) -> io::Result<()> {
    let mut head = [0u8; HEAD_BYTES];
    let length = read(0, &mut head)?.min(HEAD_BYTES);
    identity.head_len = length as u32;
    identity.head = xxh3_64(&head[..length]);
    Ok(())
}

/// The hash and length of the last of `bytes`.
pub(super) fn last_of(bytes: &[u8]) -> (u8, u64) {
    let last = &bytes[bytes.len() - bytes.len().min(LAST_BYTES)..];
    (last.len() as u8, xxh3_64(last))
}

/// Whether `remembered` is this open plain file: the same number, the same birth where both have
/// one, the same content.
///
/// # Errors
/// The system's: nothing is known then; as with all that follow.
pub fn is_same<F: Files>(
    files: &F,
    file: &F::File,
    stat: &Stat,
    remembered: &Identity,
) -> io::Result<bool> {
    let births = remembered.born_ns.zip(stat.born_ns);
    Ok(
        (remembered.device, remembered.inode) == (stat.device, stat.inode)
            && births.is_none_or(|(then, now)| then == now)
            && has_content(&mut |at, into| files.read_at(file, at, into), remembered)?,
    )
}

/// Whether the bytes that `remembered` was told by are there.
pub(super) fn has_content(read: &mut ReadAt<'_>, remembered: &Identity) -> io::Result<bool> {
    let head = (remembered.head_len as usize).min(HEAD_BYTES);
    Ok(holds(read, 0, head, remembered.head)? && has_grown(read, remembered)?)
}

/// Whether the bytes before the highest place read are still there: false for a file that was
/// truncated, however far it has grown again.
pub(super) fn has_grown(read: &mut ReadAt<'_>, remembered: &Identity) -> io::Result<bool> {
    let length = (remembered.last_len as usize).min(LAST_BYTES);
    let from = remembered.last_at.saturating_sub(length as u64);
    Ok(length == 0 || holds(read, from, length, remembered.last)?)
}

fn holds(read: &mut ReadAt<'_>, from: u64, length: usize, hash: u64) -> io::Result<bool> {
    let mut bytes = [0u8; HEAD_BYTES];
    let got = read(from, &mut bytes[..length])?;
    Ok(got == length && xxh3_64(&bytes[..length]) == hash)
}

/// Whether another file is a copy of `remembered`, of which whole lines were read. Short texts without
/// a time may be alike by chance, and are read twice rather than never.
pub(super) fn is_copy(read: &mut ReadAt<'_>, remembered: &Identity) -> io::Result<bool> {
    let head = remembered.head_len as usize;
    if remembered.last_len == 0 || head < TELLING_BYTES {
        return Ok(false);
    }
    let mut start = [0u8; TELLING_BYTES];
    let told = head == HEAD_BYTES || (read(0, &mut start)? == TELLING_BYTES && is_runtimes(&start));
    Ok(told && has_content(read, remembered)?)
}

/// A line of a container runtime: a time, or docker's JSON that holds one.
fn is_runtimes(start: &[u8; TELLING_BYTES]) -> bool {
    start.starts_with(b"{\"log\":") || (start[4] == b'-' && start[7] == b'-' && start[10] == b'T')
}

/// The length of a time to the second with its offset; shorter texts tell nothing.
const TELLING_BYTES: usize = 20;

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn read_of(content: &[u8]) -> impl FnMut(u64, &mut [u8]) -> io::Result<usize> {
        move |at, into: &mut [u8]| {
            let from = content.get(at as usize..).unwrap_or_default();
            let length = from.len().min(into.len());
            into[..length].copy_from_slice(&from[..length]);
            Ok(length)
        }
    }

    fn known(content: &[u8], read_to: usize) -> Identity {
        let stat = Stat::default();
        let mut identity = identify(&mut read_of(content), &stat).unwrap();
        (identity.last_len, identity.last) = last_of(&content[..read_to]);
        identity.last_at = read_to as u64;
        identity
    }

    #[test]
    fn regrowth_past_the_old_place_is_told_by_the_bytes_before_it() {
        let header = vec![b'h'; 2_000];
        let old = [&header[..], b"2026-11-24T05:00:00.1Z stdout F one\n"].concat();
        let identity = known(&old, old.len());
        let grown = [&old[..], b"more"].concat();
        let again = [
            &header[..],
            b"2026-11-24T05:00:01.1Z stdout F two\n",
            b"longer than before",
        ]
        .concat();
        assert!(
            has_content(&mut read_of(&grown), &identity).unwrap()
                && has_grown(&mut read_of(&grown), &identity).unwrap()
        );
        // The first 1,024 bytes are the same, and it is longer than it was.
        assert!(again.len() > old.len());
        assert!(!has_grown(&mut read_of(&again), &identity).unwrap());
        assert!(!has_content(&mut read_of(&again), &identity).unwrap());
        // A read that fails says nothing of the file.
        let mut broken = |_: u64, _: &mut [u8]| Err(io::ErrorKind::Other.into());
        assert!(has_grown(&mut broken, &identity).is_err());
        assert!(
            has_content(&mut broken, &identity).is_err()
                && is_copy(&mut broken, &identity).is_err()
        );
        let mut same = identity;
        assert!(grow(&mut broken, &mut same).is_err() && same == identity);
        assert!(
            !has_grown(&mut read_of(&old[..old.len() - 1]), &identity).unwrap(),
            "one byte less"
        );
    }

    #[test]
    fn short_texts_without_a_time_are_no_copies() {
        let check = |content: &[u8], copy: bool| {
            let got = is_copy(&mut read_of(content), &known(content, content.len())).unwrap();
            assert_eq!(got, copy, "{}", String::from_utf8_lossy(content));
        };
        check(b"started\n", false);
        check(b"started and listening on port 80\n", false);
        check(b"2026-11-24T05:00:00.1Z stdout F started\n", true);
        check(b"{\"log\":\"started\\n\",\"stream\":\"stdout\"}\n", true);
        check(&[b'x'; 3_000], true);
        check(b"", false);
        // The beginning of a line is the same in many files.
        let torn = b"2026-11-24T05:00:00.1Z stdo";
        assert!(!is_copy(&mut read_of(torn), &known(torn, 0)).unwrap());
    }
}
