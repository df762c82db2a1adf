//! A rotated file that was compressed: its inflated bytes by offset.
//!
//! kubelet compresses the file before last at each rotation, so this is read at a start after the
//! agent was away, or when it is a rotation behind; never while it keeps up.
//!
//! 1. Offsets are those of the plain file, so that its positions hold.
//! 2. Reading forward goes on where the last read ended, also from within it; reading further back
//!    begins again.
//! 3. At most [`RATIO_MAX`] times the compressed size comes out: deflate gives no more, so a larger
//!    figure would be a broken stream, and a bomb is as large as its own file allows.

use std::io;

use flate2::{Decompress, FlushDecompress, Status};

use crate::base::files::Files;

/// Compressed bytes read at once.
const INPUT_BYTES: usize = 16 << 10;

/// zlib's window: the largest that gzip has.
const WINDOW_BITS: u8 = 15;

/// Deflate's best: 258 bytes for two bits (RFC 1951, section 3.2.5).
const RATIO_MAX: u64 = 1032;

/// The state of one compressed file.
#[derive(Debug)]
pub(super) struct Inflater {
    stream: Decompress,
    input: Vec<u8>,
    /// Unused bytes of `input`.
    left: std::ops::Range<usize>,
    /// Compressed bytes taken from the file.
    taken: u64,
    /// Inflated bytes that have come out.
    at: u64,
    ended: bool,
    /// The last of them: whole lines are taken, so that the next read begins in what came before.
    recent: Vec<u8>,
    /// Bytes inflated in all, again ones included.
    work: u64,
}

impl Inflater {
    pub(super) fn new() -> Self {
        Self {
            stream: Decompress::new_gzip(WINDOW_BITS),
            input: vec![0; INPUT_BYTES],
            left: 0..0,
            taken: 0,
            at: 0,
            ended: false,
            recent: Vec::new(),
            work: 0,
        }
    }

    /// Fills `into` from the inflated `offset` on; fewer bytes only at the end.
    ///
    /// # Errors
    /// The system's, or `InvalidData` when the stream is broken or cut.
    pub(super) fn read_at<F: Files>(
        &mut self,
        files: &F,
        file: &F::File,
        offset: u64,
        into: &mut [u8],
    ) -> io::Result<usize> {
        let read = self.read_on(files, file, offset, into);
        if read.is_err() {
            // Part of it may have come out: nothing is known but the beginning.
            *self = Self::new();
        }
        read
    }

    fn read_on<F: Files>(
        &mut self,
        files: &F,
        file: &F::File,
        offset: u64,
        into: &mut [u8],
    ) -> io::Result<usize> {
        let kept = self.at - self.recent.len() as u64;
        let mut filled = 0;
        if offset < kept {
            let work = self.work;
            *self = Self::new();
            self.work = work;
        } else if offset < self.at {
            let recent = &self.recent[(offset - kept) as usize..];
            filled = recent.len().min(into.len());
            into[..filled].copy_from_slice(&recent[..filled]);
        }
        if self.at < offset {
            self.recent.clear();
        }
        while self.at < offset && !self.ended {
            let skip = usize::try_from(offset - self.at).unwrap_or(usize::MAX);
            let length = skip.min(into.len());
            if length == 0 {
                break;
            }
            self.inflate(files, file, &mut into[..length])?;
        }
        while filled < into.len() && !self.ended {
            filled += self.inflate(files, file, &mut into[filled..])?;
        }
        if offset + filled as u64 == self.at {
            self.recent.clear();
            self.recent.extend_from_slice(&into[..filled]);
        }
        Ok(filled)
    }

    fn inflate<F: Files>(
        &mut self,
        files: &F,
        file: &F::File,
        into: &mut [u8],
    ) -> io::Result<usize> {
        if self.left.is_empty() {
            let read = files.read_at(file, self.taken, &mut self.input)?;
            self.taken += read as u64;
            self.left = 0..read;
        }
        let (in_before, out_before) = (self.stream.total_in(), self.stream.total_out());
        let input = &self.input[self.left.clone()];
        let status = self
            .stream
            .decompress(input, into, FlushDecompress::None)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let used = (self.stream.total_in() - in_before) as usize;
        let made = (self.stream.total_out() - out_before) as usize;
        self.left.start += used;
        self.at += made as u64;
        self.work += made as u64;
        self.ended = status == Status::StreamEnd;
        let stuck = used == 0 && made == 0 && !self.ended && !into.is_empty();
        if stuck || self.at > self.taken.saturating_mul(RATIO_MAX) {
            let text = "the compressed file is cut or broken";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::io::Write as _;

    use super::*;
    use crate::machine::MachineFiles;

    fn packed(name: &str, text: &[u8], cut: usize) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("tailwake-gz-{name}-{}", std::process::id()));
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        let mut bytes = encoder.finish().unwrap();
        bytes.truncate(bytes.len() - cut);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn any_offset_is_read_forward_and_back() {
        let text: Vec<u8> = (0..200_000u32)
            .flat_map(|n| (n / 7).to_le_bytes())
            .collect();
        let path = packed("offsets", &text, 0);
        let files = MachineFiles::new(vec![std::env::temp_dir()]);
        let file = files.open_log(&path).unwrap();
        let mut inflater = Inflater::new();
        let mut into = vec![0; 10_000];
        for offset in [0u64, 10_000, 500_001, 3, 795_000, 800_000, 900_000] {
            let read = inflater.read_at(&files, &file, offset, &mut into).unwrap();
            let want = text.get(offset as usize..).unwrap_or_default();
            assert_eq!(&into[..read], &want[..want.len().min(10_000)], "{offset}");
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn whole_lines_are_read_on_without_inflating_twice() {
        let text: Vec<u8> = (0..300_000u32)
            .flat_map(|n| (n / 3).to_le_bytes())
            .collect();
        let path = packed("forward", &text, 0);
        let files = MachineFiles::new(vec![std::env::temp_dir()]);
        let file = files.open_log(&path).unwrap();
        let mut inflater = Inflater::new();
        let (mut into, mut offset) = (vec![0; 10_000], 0u64);
        loop {
            let read = inflater.read_at(&files, &file, offset, &mut into).unwrap();
            assert_eq!(into[..read], text[offset as usize..][..read]);
            // The end of each read is no whole line.
            offset += read.saturating_sub(if read == into.len() { 300 } else { 0 }) as u64;
            if read < into.len() {
                break;
            }
        }
        assert_eq!(inflater.work, text.len() as u64);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_cut_stream_is_an_error_and_not_an_end() {
        let path = packed("cut", &[b'x'; 100_000], 20);
        let files = MachineFiles::new(vec![std::env::temp_dir()]);
        let file = files.open_log(&path).unwrap();
        let mut into = vec![0; 200_000];
        let error = Inflater::new().read_at(&files, &file, 0, &mut into);
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::InvalidData);
        std::fs::remove_file(path).unwrap();
    }
}
