//! Whether registered buffers are worth their lock on memory: READ against READ_FIXED on a file in
//! the page cache.
//!
//! `cargo run -p tailwake --example ring_bench`: the copy in the kernel is what is measured, so the
//! profile does not matter.
#![expect(clippy::print_stdout, reason = "a bench prints")]

use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::time::Instant;

use io_uring::{IoUring, opcode, types};

/// One read: half of the agent's default buffer.
const READ_BYTES: u32 = 64 << 10;
/// Stays in the page cache.
const FILE_BYTES: u64 = 16 << 20;
/// Each way is run so often, in turns; the best run counts.
const ROUNDS: usize = 15;
/// Reads in flight.
const DEPTH: usize = 16;

fn main() -> anyhow::Result<()> {
    let path = std::env::temp_dir().join(format!("ring-bench-{}", std::process::id()));
    let mut file = std::fs::File::create_new(&path)?;
    file.write_all(&vec![b'x'; usize::try_from(FILE_BYTES)?])?;
    let file = std::fs::File::open(&path)?;
    std::fs::remove_file(&path)?;
    let mut ring = IoUring::new(64)?;
    let mut buffers = vec![vec![0u8; READ_BYTES as usize]; DEPTH];
    let described: Vec<libc::iovec> = (buffers.iter_mut())
        .map(|buffer| libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        })
        .collect();
    // SAFETY: the buffers live until the end of `main`, after the last read.
    unsafe { ring.submitter().register_buffers(&described) }?;
    let (mut plain, mut fixed) = (f64::MAX, f64::MAX);
    for _ in 0..ROUNDS {
        plain = plain.min(round(&mut ring, &file, &described, false)?);
        fixed = fixed.min(round(&mut ring, &file, &described, true)?);
    }
    println!("READ       {plain:.0} ns a read of {READ_BYTES} bytes");
    println!("READ_FIXED {fixed:.0} ns, {:.2} of it", fixed / plain);
    Ok(())
}

/// Reads the file once; nanoseconds a read.
fn round(
    ring: &mut IoUring,
    file: &std::fs::File,
    buffers: &[libc::iovec],
    fixed: bool,
) -> anyhow::Result<f64> {
    let fd = types::Fd(file.as_raw_fd());
    let begun = Instant::now();
    let (mut offset, mut reads) = (0, 0u32);
    while offset < FILE_BYTES {
        for (index, buffer) in buffers.iter().enumerate() {
            let address = buffer.iov_base.cast();
            let entry = if fixed {
                let index = u16::try_from(index)?;
                opcode::ReadFixed::new(fd, address, READ_BYTES, index)
                    .offset(offset)
                    .build()
            } else {
                opcode::Read::new(fd, address, READ_BYTES)
                    .offset(offset)
                    .build()
            };
            // SAFETY: the buffer outlives the read, which is awaited below.
            unsafe { ring.submission().push(&entry) }?;
            offset += u64::from(READ_BYTES);
            reads += 1;
        }
        ring.submit_and_wait(buffers.len())?;
        for entry in ring.completion() {
            anyhow::ensure!(entry.result() == i32::try_from(READ_BYTES)?, "a short read");
        }
    }
    Ok(begun.elapsed().as_nanos() as f64 / f64::from(reads))
}
