//! The ways of writing to a file, each appending, truncating or storing once per act.
#![expect(unsafe_code, reason = "aio, io_uring and mappings take addresses")]

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Seek, SeekFrom, Write as _};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use io_uring::{IoUring, opcode, types};
use rustix::fs::FallocateFlags;
use rustix::mm::{MapFlags, ProtFlags};
use rustix::pipe::SpliceFlags;

/// Bytes of each act in turn: within a page, and over some of them.
const LENGTHS: [usize; 2] = [101, 9001];
const LENGTH_MAX: usize = 9001;

/// One way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Write,
    Writev,
    Pwrite,
    Append,
    IoUring,
    Aio,
    Splice,
    Sendfile,
    CopyFileRange,
    Truncate,
    Fallocate,
    Mmap,
}

impl Way {
    pub(crate) const ALL: [Self; 12] = [
        Self::Write,
        Self::Writev,
        Self::Pwrite,
        Self::Append,
        Self::IoUring,
        Self::Aio,
        Self::Splice,
        Self::Sendfile,
        Self::CopyFileRange,
        Self::Truncate,
        Self::Fallocate,
        Self::Mmap,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Writev => "writev",
            Self::Pwrite => "pwrite",
            Self::Append => "O_APPEND",
            Self::IoUring => "io_uring",
            Self::Aio => "aio",
            Self::Splice => "splice",
            Self::Sendfile => "sendfile",
            Self::CopyFileRange => "copy_file_range",
            Self::Truncate => "truncate",
            Self::Fallocate => "fallocate",
            Self::Mmap => "mmap",
        }
    }
}

/// Writes to one file in one way.
#[derive(Debug)]
pub(crate) struct Writer {
    way: Way,
    file: File,
    source: File,
    pipe: (OwnedFd, OwnedFd),
    bytes: Vec<u8>,
    acts: usize,
    end: u64,
}

impl Writer {
    /// A new file of this path; what is copied from stands beside it.
    pub(crate) fn create(way: Way, path: &Path) -> io::Result<Self> {
        let bytes = vec![b'x'; LENGTH_MAX];
        let beside = path.with_extension("source");
        std::fs::write(&beside, &bytes)?;
        let source = File::open(&beside)?;
        std::fs::remove_file(&beside)?;
        let _ = std::fs::remove_file(path);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        let file = options.append(way == Way::Append).open(path)?;
        Ok(Self {
            way,
            file,
            source,
            pipe: rustix::pipe::pipe()?,
            bytes,
            acts: 0,
            end: 0,
        })
    }

    fn length(&self) -> usize {
        LENGTHS[self.acts % LENGTHS.len()]
    }

    /// What must be there before the act; it may be announced or not.
    pub(crate) fn prepare(&mut self) -> io::Result<()> {
        match self.way {
            Way::Truncate => self.file.write_all_at(&self.bytes, 0),
            Way::Mmap => self.file.set_len(self.end + self.length() as u64),
            Way::Splice => {
                let length = self.length();
                write_all(&self.pipe.1, &self.bytes[..length])
            }
            _ => self.file.seek(SeekFrom::Start(self.end)).map(drop),
        }
    }

    /// The act itself.
    pub(crate) fn act(&mut self) -> io::Result<()> {
        let length = self.length();
        let end = self.end;
        let bytes = &self.bytes[..length];
        match self.way {
            Way::Write | Way::Append => whole(length, (&self.file).write(bytes)?)?,
            Way::Writev => {
                let (one, two) = bytes.split_at(length / 2);
                let parts = [IoSlice::new(one), IoSlice::new(two)];
                whole(length, rustix::io::writev(&self.file, &parts)?)?;
            }
            Way::Pwrite => whole(length, self.file.write_at(bytes, end)?)?,
            Way::IoUring => self.by_ring(length)?,
            Way::Aio => self.by_aio(length)?,
            Way::Splice => each(length, |left, at| {
                let mut offset = end + at as u64;
                let (from, flags) = (&self.pipe.0, SpliceFlags::empty());
                let done =
                    rustix::pipe::splice(from, None, &self.file, Some(&mut offset), left, flags);
                Ok(done?)
            })?,
            Way::Sendfile => each(length, |left, at| {
                let mut from = at as u64;
                Ok(rustix::fs::sendfile(
                    &self.file,
                    &self.source,
                    Some(&mut from),
                    left,
                )?)
            })?,
            Way::CopyFileRange => each(length, |left, at| {
                let (mut from, mut to) = (at as u64, end + at as u64);
                let (source, file) = (self.source.as_fd(), self.file.as_fd());
                Ok(rustix::fs::copy_file_range(
                    source,
                    Some(&mut from),
                    file,
                    Some(&mut to),
                    left,
                )?)
            })?,
            Way::Truncate => self.file.set_len(0)?,
            Way::Fallocate => {
                let flags = FallocateFlags::empty();
                rustix::fs::fallocate(&self.file, flags, end, length as u64)?;
            }
            Way::Mmap => self.by_mapping(length)?,
        }
        self.acts += 1;
        self.end = self.file.metadata()?.len();
        Ok(())
    }

    fn by_ring(&self, length: usize) -> io::Result<()> {
        let mut ring = IoUring::new(4)?;
        let fd = types::Fd(self.file.as_raw_fd());
        let entry = opcode::Write::new(fd, self.bytes.as_ptr(), length as u32);
        // SAFETY: the bytes outlive the write, which is awaited here.
        unsafe { ring.submission().push(&entry.offset(self.end).build()) }
            .map_err(io::Error::other)?;
        ring.submit_and_wait(1)?;
        let done = ring.completion().next().map_or(0, |entry| entry.result());
        if done < 0 {
            return Err(io::Error::from_raw_os_error(-done));
        }
        whole(length, done as usize)
    }

    /// linux/aio_abi.h: struct iocb and struct io_event.
    fn by_aio(&self, length: usize) -> io::Result<()> {
        const WRITE: u64 = 1;
        let fd = self.file.as_raw_fd() as u64;
        let address = self.bytes.as_ptr() as u64;
        let block: [u64; 8] = [
            0,
            0,
            fd << 32 | WRITE,
            address,
            length as u64,
            self.end,
            0,
            0,
        ];
        let (mut context, list, mut event) = (0u64, [block.as_ptr()], [0i64; 4]);
        let none = std::ptr::null_mut::<libc::timespec>();
        // SAFETY: a context is written to the address given.
        system(unsafe { libc::syscall(libc::SYS_io_setup, 1, &raw mut context) })?;
        // SAFETY: block and bytes outlive the write, which is awaited here.
        let submitted =
            system(unsafe { libc::syscall(libc::SYS_io_submit, context, 1, list.as_ptr()) });
        if submitted.is_ok() {
            let into = event.as_mut_ptr();
            // SAFETY: one event is written to the address given.
            system(unsafe { libc::syscall(libc::SYS_io_getevents, context, 1, 1, into, none) })?;
        }
        // SAFETY: the context was made here.
        system(unsafe { libc::syscall(libc::SYS_io_destroy, context) })?;
        submitted?;
        if event[2] < 0 {
            return Err(io::Error::from_raw_os_error(-event[2] as i32));
        }
        whole(length, event[2] as usize)
    }

    /// A mapping begins at a page, so all of the file is mapped; its last bytes are stored to.
    fn by_mapping(&self, length: usize) -> io::Result<()> {
        let (none, size) = (std::ptr::null_mut(), self.end as usize + length);
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let base =
            unsafe { rustix::mm::mmap(none, size, rights, MapFlags::SHARED, &self.file, 0) }?;
        // SAFETY: the file has this size since `prepare`, so all of it is mapped.
        unsafe {
            base.cast::<u8>()
                .add(self.end as usize)
                .write_bytes(b'x', length)
        };
        // SAFETY: mapped above with this size; nothing refers to it any more.
        Ok(unsafe { rustix::mm::munmap(base, size) }?)
    }
}

fn write_all(to: impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        bytes = &bytes[rustix::io::write(&to, bytes)?..];
    }
    Ok(())
}

fn whole(wanted: usize, done: usize) -> io::Result<()> {
    if done == wanted {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "{done} of {wanted} bytes were written"
    )))
}

/// Repeats what may do less than it was asked for.
fn each(length: usize, mut act: impl FnMut(usize, usize) -> io::Result<usize>) -> io::Result<()> {
    let mut done = 0;
    while done < length {
        match act(length - done, done)? {
            0 => return whole(length, done),
            more => done += more,
        }
    }
    Ok(())
}

fn system(result: libc::c_long) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
