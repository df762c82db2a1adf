//! A segment's file: frames one after the other.
//!
//! ```text
//! 16 bytes: magic, version, kind of output      frame  frame  frame ...
//! ```
//!
//! 1. Only the newest segment of a running agent is appended to: a start makes a new one, so that no
//!    frame stands behind what a crash has torn.
//! 2. Where no frame stands, the next is looked for; what lies between is damage.

use std::io;

use super::frame::{FRAME_BYTES, Header, next_magic};
use crate::base::store::Store;

/// Bytes before the first frame.
pub(super) const PREFIX_BYTES: u64 = 16;

/// Magic and version; a kind follows.
const PREFIX: [u8; 12] = *b"tailwakespl1";

/// So much is read at once where a frame is looked for.
const PIECE_BYTES: usize = 64 << 10;

/// What a segment's first bytes are.
pub(super) fn prefix(kind: [u8; 4]) -> [u8; PREFIX_BYTES as usize] {
    let mut out = [0; PREFIX_BYTES as usize];
    out[..12].copy_from_slice(&PREFIX);
    out[12..].copy_from_slice(&kind);
    out
}

/// Whose a file with a segment's name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// A segment of this kind.
    Ours,
    /// A segment of another kind.
    Others,
    /// Its first bytes were never written: a crash came while it was made.
    Nobodys,
    /// Its first bytes are none of ours; its frames may be.
    Unknown,
}

/// Whose the file is, by its first bytes.
///
/// # Errors
/// The system's.
pub(super) fn whose<S: Store>(store: &S, file: &S::File, kind: [u8; 4]) -> io::Result<Whose> {
    let mut have = [0; PREFIX_BYTES as usize];
    let read = store.read_at(file, 0, &mut have)?;
    let (have, ours) = (&have[..read], prefix(kind));
    // Of what a crash has torn, the beginning is there and zeros, or nothing, follow.
    let same = have.iter().zip(ours).take_while(|(a, b)| *a == b).count();
    Ok(if same == ours.len() {
        Whose::Ours
    } else if have[same..].iter().all(|byte| *byte == 0) {
        Whose::Nobodys
    } else if same >= PREFIX.len() {
        Whose::Others
    } else {
        Whose::Unknown
    })
}

/// Whether the file is a segment of this kind.
///
/// # Errors
/// The system's.
pub fn is_of_kind<S: Store>(store: &S, name: &str, kind: [u8; 4]) -> io::Result<bool> {
    Ok(whose(store, &store.open(name)?, kind)? == Whose::Ours)
}

/// What stands in a segment at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A frame; its head and body are not looked at.
    Frame { at: u64, header: Header },
    /// So many bytes that are none.
    Damage(u64),
}

/// Goes through a file of `size` bytes, header by header.
///
/// # Errors
/// The system's.
pub(super) fn walk<S: Store>(
    store: &S,
    file: &S::File,
    size: u64,
    mut found: impl FnMut(Found),
) -> io::Result<()> {
    let mut at = PREFIX_BYTES;
    while at < size {
        if let Some(header) = header_at(store, file, at, size)? {
            found(Found::Frame { at, header });
            at += header.frame_bytes();
            continue;
        }
        let next = look_on(store, file, at, size)?;
        found(Found::Damage(next - at));
        at = next;
    }
    Ok(())
}

/// The header of a frame that lies whole within `size`.
fn header_at<S: Store>(
    store: &S,
    file: &S::File,
    at: u64,
    size: u64,
) -> io::Result<Option<Header>> {
    let mut bytes = [0; FRAME_BYTES];
    if store.read_at(file, at, &mut bytes)? < bytes.len() {
        return Ok(None);
    }
    let header = Header::from_bytes(&bytes);
    Ok(header.filter(|header| header.frame_bytes() <= size - at))
}

/// Where the next frame stands after `at`, or the end.
fn look_on<S: Store>(store: &S, file: &S::File, at: u64, size: u64) -> io::Result<u64> {
    let mut piece = vec![0; PIECE_BYTES];
    let mut from = at;
    loop {
        let read = store.read_at(file, from, &mut piece)?;
        let Some(place) = next_magic(&piece[..read]) else {
            // A magic may lie over the piece's end.
            if read < piece.len() {
                return Ok(size);
            }
            from += (read - 4) as u64;
            continue;
        };
        from += place as u64;
        if header_at(store, file, from, size)?.is_some() {
            return Ok(from);
        }
    }
}
