//! The machine's directories as a [`Store`].

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use crate::base::store::Store;

/// A directory of ours.
#[derive(Clone, Debug)]
pub struct MachineStore {
    dir: PathBuf,
}

impl MachineStore {
    /// The directory `dir`, whether it is there or not.
    #[must_use]
    pub const fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Has what was done to names in the directory on the disk.
    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }
}

impl Store for MachineStore {
    type File = File;

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry?;
            let size = entry.metadata().map_or(0, |facts| facts.len());
            found.push((entry.file_name().to_string_lossy().into_owned(), size));
        }
        Ok(found)
    }

    fn create(&self, name: &str) -> io::Result<File> {
        let mut options = File::options();
        let path = self.dir.join(name);
        let file = options.read(true).write(true).create_new(true).open(path)?;
        self.sync_names()?;
        Ok(file)
    }

    fn open(&self, name: &str) -> io::Result<File> {
        let path = self.dir.join(name);
        match File::options().read(true).write(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => File::open(path),
            file => file,
        }
    }

    fn read_at(&self, file: &File, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut read = 0;
        while read < into.len() {
            match file.read_at(&mut into[read..], at + read as u64) {
                Ok(0) => break,
                Ok(some) => read += some,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn write_at(&self, file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }

    fn cut(&self, file: &File, size: u64) -> io::Result<()> {
        file.set_len(size)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.dir.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.dir.join(from), self.dir.join(to))
    }
}
