//! A frame: what surrounds an entry in a segment.
//!
//! ```text
//! 0 magic  4 state, 0 0 0  8 head length  12 body length  16 lines  20 Unix seconds
//! 24 crc32c of head and body  28 crc32c of the header but for its state  32 head .. body
//! ```
//!
//! Numbers are 32 bits, little-endian. The state byte stands outside of the checksums, so that it can be
//! written in place.

/// Bytes before the head.
pub(super) const FRAME_BYTES: usize = 32;

/// Where the state byte stands.
pub(super) const STATE_AT: u64 = 4;

/// The state byte of a frame that is settled; any other value means that it is owed.
pub(super) const SETTLED: u8 = 0x5e;

/// Begins every frame, and nothing else that is likely.
const MAGIC: [u8; 4] = [0xF1, b'T', b'w', 0x1E];

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) settled: bool,
    pub(super) head_bytes: u32,
    pub(super) body_bytes: u32,
    pub(super) lines: u32,
    pub(super) secs: u32,
    /// Of head and body.
    pub(super) crc: u32,
}

impl Header {
    /// The whole frame's bytes.
    pub(super) fn frame_bytes(&self) -> u64 {
        FRAME_BYTES as u64 + u64::from(self.head_bytes) + u64::from(self.body_bytes)
    }

    pub(super) fn to_bytes(self) -> [u8; FRAME_BYTES] {
        let mut out = [0; FRAME_BYTES];
        out[..4].copy_from_slice(&MAGIC);
        out[4] = if self.settled { SETTLED } else { 0 };
        let numbers = [
            self.head_bytes,
            self.body_bytes,
            self.lines,
            self.secs,
            self.crc,
        ];
        for (place, number) in out[8..28].chunks_exact_mut(4).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let crc = own_crc(&out);
        out[28..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// None where no frame stands.
    pub(super) fn from_bytes(bytes: &[u8; FRAME_BYTES]) -> Option<Self> {
        let number = |at: usize| {
            let mut four = [0; 4];
            four.copy_from_slice(&bytes[at..at + 4]);
            u32::from_le_bytes(four)
        };
        let whole = bytes[..4] == MAGIC && number(28) == own_crc(bytes);
        whole.then(|| Self {
            settled: bytes[4] == SETTLED,
            head_bytes: number(8),
            body_bytes: number(12),
            lines: number(16),
            secs: number(20),
            crc: number(24),
        })
    }
}

fn own_crc(bytes: &[u8; FRAME_BYTES]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..4]), &bytes[8..28])
}

/// The next place in `bytes` after the first where a frame may begin.
pub(super) fn next_magic(bytes: &[u8]) -> Option<usize> {
    let found = memchr::memmem::find(bytes.get(1..)?, &MAGIC)?;
    Some(found + 1)
}
