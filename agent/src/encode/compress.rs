//! Compression, with its state and its output buffer kept from body to body.

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress, Status};
use thiserror::Error;

use super::request::Encoding;

/// Window bits of gzip: the largest, as every decoder has it.
const WINDOW_BITS: u8 = 15;

/// Least room that the compressor is given at once.
const ROOM_MIN: usize = 4 << 10;

/// Why a body could not be compressed or inflated.
#[derive(Debug, Error)]
pub enum Error {
    /// gzip did not end well.
    #[error("compress a body with gzip: {0}")]
    Gzip(#[from] flate2::CompressError),
    /// The body is not what it was compressed as.
    #[error("inflate a body: {0}")]
    Inflate(#[from] std::io::Error),
    /// zstd did not end well.
    #[error("compress a body with zstd: {0}")]
    Zstd(std::io::Error),
    /// Snappy did not end well.
    #[error("snappy: {0}")]
    Snappy(#[from] snap::Error),
    /// The item table does not belong to the body.
    #[error("item {0} lies outside of the request")]
    Item(usize),
}

/// Compresses bodies one after the other.
pub(crate) struct Compressor {
    state: State,
    out: Vec<u8>,
}

enum State {
    Plain,
    Gzip(Box<Compress>, u8),
    /// Made for the first body.
    Zstd(Option<Box<zstd::bulk::Compressor<'static>>>, u8),
    Snappy(Box<snap::raw::Encoder>),
}

impl Compressor {
    pub(crate) fn gzip(level: u32) -> Self {
        let level = level.min(9) as u8;
        let state = match level {
            0 => State::Plain,
            level => {
                let made = Compress::new_gzip(Compression::new(level.into()), WINDOW_BITS);
                State::Gzip(Box::new(made), level)
            }
        };
        Self {
            state,
            out: Vec::new(),
        }
    }

    fn zstd(level: u8) -> Self {
        Self {
            state: State::Zstd(None, level),
            out: Vec::new(),
        }
    }

    pub(crate) fn snappy() -> Self {
        let state = State::Snappy(Box::new(snap::raw::Encoder::new()));
        Self {
            state,
            out: Vec::new(),
        }
    }

    pub(crate) fn of(encoding: Encoding) -> Self {
        match encoding {
            Encoding::Plain => Self::gzip(0),
            Encoding::Gzip(level) => Self::gzip(level.into()),
            Encoding::Zstd(level) => Self::zstd(level),
            Encoding::Snappy => Self::snappy(),
        }
    }

    pub(crate) const fn encoding(&self) -> Encoding {
        match self.state {
            State::Plain => Encoding::Plain,
            State::Gzip(_, level) => Encoding::Gzip(level),
            State::Zstd(_, level) => Encoding::Zstd(level),
            State::Snappy(_) => Encoding::Snappy,
        }
    }

    /// The compressed body in memory of exactly its size.
    pub(crate) fn compress(&mut self, body: &[u8]) -> Result<Bytes, Error> {
        let out = &mut self.out;
        match &mut self.state {
            State::Plain => Ok(Bytes::copy_from_slice(body)),
            State::Snappy(encoder) => {
                let most = snap::raw::max_compress_len(body.len());
                if out.len() < most {
                    // New zeros: the system gives memory for what is written of them alone, which
                    // is a fifth.
                    *out = vec![0; most.next_power_of_two()];
                }
                let len = encoder.compress(body, out)?;
                Ok(Bytes::copy_from_slice(&out[..len]))
            }
            State::Zstd(state, level) => {
                let state = match state {
                    Some(state) => state,
                    None => {
                        let made = zstd::bulk::Compressor::new(i32::from(*level));
                        state.insert(Box::new(made.map_err(Error::Zstd)?))
                    }
                };
                out.clear();
                out.reserve(zstd::zstd_safe::compress_bound(body.len()));
                state.compress_to_buffer(body, out).map_err(Error::Zstd)?;
                Ok(Bytes::copy_from_slice(out))
            }
            State::Gzip(state, _) => {
                state.reset();
                out.clear();
                out.reserve(body.len() / 4 + ROOM_MIN);
                loop {
                    let at = state.total_in() as usize;
                    let status = state.compress_vec(&body[at..], out, FlushCompress::Finish)?;
                    if matches!(status, Status::StreamEnd) {
                        return Ok(Bytes::copy_from_slice(out));
                    }
                    out.reserve(out.capacity().max(ROOM_MIN));
                }
            }
        }
    }
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Compressor({:?})", self.encoding())
    }
}

/// The body as it was before compression.
pub(crate) fn inflate(encoding: Encoding, body: &[u8]) -> Result<Vec<u8>, Error> {
    match encoding {
        Encoding::Plain => Ok(body.to_vec()),
        Encoding::Zstd(_) => Ok(zstd::stream::decode_all(body)?),
        Encoding::Snappy => Ok(snap::raw::Decoder::new().decompress_vec(body)?),
        Encoding::Gzip(_) => {
            let mut out = Vec::with_capacity(body.len() * 4);
            std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(body), &mut out)?;
            Ok(out)
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Bodies of any size come back whole, one after the other through the same state.
        #[test]
        fn bodies_come_back(
            bodies in proptest::collection::vec(
                proptest::collection::vec(any::<u8>(), 0..20_000), 1..4),
        ) {
            let makers = [
                Compressor::gzip(0),
                Compressor::gzip(1),
                Compressor::of(Encoding::Zstd(1)),
                Compressor::snappy(),
            ];
            for mut compressor in makers {
                for body in &bodies {
                    let packed = compressor.compress(body).unwrap();
                    let back = inflate(compressor.encoding(), &packed).unwrap();
                    prop_assert_eq!(&back, body);
                }
            }
        }
    }
}
