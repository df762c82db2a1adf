//! A file just opened, before it is known which file it is.

use std::io;
use std::path::Path;

use super::file::Tail;
use super::gzip::Inflater;
use super::identity;
use crate::base::files::{Files, Stat};
use crate::ledger::Identity;

/// An open file.
#[derive(Debug)]
pub(super) struct Opened<H> {
    pub(super) handle: H,
    pub(super) stat: Stat,
    /// It is compressed.
    pub(super) packed: Option<Box<Inflater>>,
}

impl<H> Opened<H> {
    /// Opens a log file; what its name says is compressed is read inflated.
    ///
    /// # Errors
    /// The system's; `InvalidInput` when it is no regular file.
    pub(super) fn open<F: Files<File = H>>(files: &F, path: &Path) -> io::Result<Self> {
        let handle = files.open_log(path)?;
        let stat = files.stat(&handle)?;
        let packed = path.extension().is_some_and(|end| end == "gz");
        Ok(Self {
            handle,
            stat,
            packed: packed.then(|| Box::new(Inflater::new())),
        })
    }

    fn read<F: Files<File = H>>(
        &mut self,
        files: &F,
        offset: u64,
        into: &mut [u8],
    ) -> io::Result<usize> {
        match &mut self.packed {
            Some(inflater) => inflater.read_at(files, &self.handle, offset, into),
            None => files.read_at(&self.handle, offset, into),
        }
    }

    /// Its numbers and first bytes.
    ///
    /// # Errors
    /// The system's: which file it is, is not known then; as with all that follow.
    pub(super) fn identify<F: Files<File = H>>(&mut self, files: &F) -> io::Result<Identity> {
        let stat = self.stat;
        identity::identify(&mut |at, into| self.read(files, at, into), &stat)
    }

    /// Whether it is the plain file that is remembered so.
    pub(super) fn is_same<F: Files<File = H>>(
        &self,
        files: &F,
        remembered: &Identity,
    ) -> io::Result<bool> {
        Ok(
            self.packed.is_none()
                && identity::is_same(files, &self.handle, &self.stat, remembered)?,
        )
    }

    /// Whether it has the content of the file that is remembered so.
    pub(super) fn is_copy<F: Files<File = H>>(
        &mut self,
        files: &F,
        remembered: &Identity,
    ) -> io::Result<bool> {
        identity::is_copy(&mut |at, into| self.read(files, at, into), remembered)
    }

    /// Whether it is a file that is known. While its descriptor is held no other can have its number.
    pub(super) fn is_file_of<F: Files<File = H>>(
        &self,
        files: &F,
        tail: &Tail<H>,
        path: &Path,
    ) -> io::Result<bool> {
        let was = &tail.identity;
        if (was.device, was.inode) != (self.stat.device, self.stat.inode) {
            return Ok(false);
        }
        // Done with, empty then and now, and its name has never gone.
        let empty = was.head_len == 0 && self.stat.size == 0 && !tail.gone && tail.path == path;
        let told = self.stat.born_ns.is_some() || was.head_len > 0;
        Ok(tail.handle.is_some() || empty || (told && self.is_same(files, was)?))
    }

    /// Whether it is a copy of a file that is known, under another name: what is named as that file,
    /// compressed, is one also while nothing of it was read.
    pub(super) fn is_copy_of<F: Files<File = H>>(
        &mut self,
        files: &F,
        tail: &Tail<H>,
        path: &Path,
    ) -> io::Result<bool> {
        let packed = self.packed.is_some() && path.with_extension("") == tail.path;
        if packed {
            return identity::has_content(
                &mut |at, into| self.read(files, at, into),
                &tail.identity,
            );
        }
        Ok(
            tail.path != path
                && self.is_copy(files, &tail.identity)?
                && !self.parts(files, tail)?,
        )
    }

    /// Whether this and the known file go on differently beyond what was read of that one, as files of
    /// one beginning do. Says nothing of a file that was truncated since.
    fn parts<F: Files<File = H>>(&self, files: &F, tail: &Tail<H>) -> io::Result<bool> {
        let (Some(known), None, None) = (&tail.handle, &self.packed, &tail.packed) else {
            return Ok(false);
        };
        let end = files.stat(known)?.size.min(self.stat.size);
        let mut read = |at: u64, into: &mut [u8]| files.read_at(known, at, into);
        if end <= tail.identity.last_at || !identity::has_grown(&mut read, &tail.identity)? {
            return Ok(false);
        }
        let mut last = [[0u8; identity::LAST_BYTES]; 2];
        let from = end.saturating_sub(identity::LAST_BYTES as u64);
        for (handle, last) in [known, &self.handle].into_iter().zip(&mut last) {
            files.read_at(handle, from, &mut last[..(end - from) as usize])?;
        }
        Ok(last[0] != last[1])
    }

    /// No more bytes than this are in it: for compressed files more than can be.
    pub(super) fn size_at_most(&self) -> u64 {
        match self.packed {
            Some(_) => u64::MAX,
            None => self.stat.size,
        }
    }
}
