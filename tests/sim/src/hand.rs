//! A container's log, written by hand: what a scenario does to it, line by line and name by name.
//!
//! 1. A line is booked when its first byte is written; lines go to the file of `target`, which
//!    changes only when the scenario says so, as containerd's descriptor does.
//! 2. A compressed file keeps its key in the books: it holds the same lines.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::books::{Books, Id};
use crate::world::World;
use crate::writer::{Generation, Kind, Writer, line};

/// A record of which lines are still to be written.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) id: Id,
    rest: Vec<u8>,
}

impl Writer {
    /// Begins a record of this many lines.
    pub(crate) fn begin(
        &self,
        books: &mut Books,
        stream: usize,
        words: &str,
        lines: usize,
    ) -> Open {
        let (container, seq) = (self.number, books.next_seq(self.number, stream));
        let id = Id {
            container,
            stream,
            seq,
        };
        let text = match self.kind {
            Kind::Json => format!("{{\"seq\":{seq},\"m\":\"{words}\"}}"),
            Kind::Plain | Kind::Blocks => format!("seq={seq} {words}"),
        };
        books.record(id, &text, [true; 2], lines);
        let rest = text.into_bytes();
        Open { id, rest }
    }

    /// The next line of a record: `length` bytes more of it, or, without, its rest.
    pub(crate) fn line(
        &mut self,
        books: &mut Books,
        target: usize,
        open: &mut Open,
        length: Option<usize>,
    ) -> Vec<u8> {
        let keep = length.unwrap_or(open.rest.len()).min(open.rest.len());
        let rest = open.rest.split_off(keep);
        let part = std::mem::replace(&mut open.rest, rest);
        let tag = if length.is_some() { 'P' } else { 'F' };
        let bytes = line(open.id.stream, tag, &part);
        let file = &mut self.files[target];
        let start = file.size;
        file.size += bytes.len() as u64;
        books.line(file.key, start, file.size, open.id);
        bytes
    }

    /// Renames the file at `at` as kubelet does; gives its name before.
    pub(crate) fn rename(&mut self, world: &World, at: usize) -> PathBuf {
        self.rotations += 1;
        let name = self.rotated_name();
        let from = std::mem::replace(&mut self.files[at].path, name);
        world.rename_log(&from, &self.files[at].path);
        from
    }

    /// The name of the rotation that was last.
    pub(crate) fn rotated_name(&self) -> PathBuf {
        let (minutes, seconds) = (self.rotations / 60, self.rotations % 60);
        let current = self.current();
        let current = current.display();
        PathBuf::from(format!("{current}.20261124-03{minutes:02}{seconds:02}"))
    }

    /// Where kubelet compresses a file to, before that has its name.
    pub(crate) fn packing(&self, at: usize) -> PathBuf {
        with_end(&self.files[at].path, "tmp")
    }

    /// Gives the finished compressed file its name; the plain one is still there, at the name given.
    pub(crate) fn pack(&mut self, world: &World, at: usize) -> PathBuf {
        let packed = with_end(&self.files[at].path, "gz");
        world.rename_log(&self.packing(at), &packed);
        let file = &mut self.files[at];
        file.stands_in = true;
        std::mem::replace(&mut file.path, packed)
    }

    /// A copy of the file at `at`, under the next rotated name, as logrotate makes it before it
    /// truncates; it takes over the lines in the books. Gives its place.
    pub(crate) fn copy(&mut self, world: &World, books: &mut Books, at: usize) -> usize {
        self.rotations += 1;
        let path = self.rotated_name();
        let key = world.create(&path);
        world.append(key, &world.bytes(self.files[at].key));
        books.moved(self.files[at].key, key);
        let copy = Generation {
            key,
            path,
            size: self.files[at].size,
            deleted: false,
            attempt: self.files[at].attempt,
            stands_in: true,
        };
        self.files.insert(at, copy);
        at
    }
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    PathBuf::from(format!("{}.{end}", path.display()))
}

/// Compressed bytes.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // Memory refuses nothing.
    let written = encoder.write_all(bytes).and_then(|()| encoder.finish());
    written.unwrap_or_default()
}
