//! Writes a tar in the ustar form (POSIX.1-1988), which every container engine reads.
//!
//! 1. The bytes follow from names and contents alone: no time, no owner but root.

use std::io::{self, Write};

/// An archive under way.
#[derive(Debug)]
pub(super) struct Archive<W> {
    out: W,
}

impl<W: Write> Archive<W> {
    pub(super) const fn new(out: W) -> Self {
        Self { out }
    }

    pub(super) fn folder(&mut self, name: &str) -> io::Result<()> {
        self.entry(name, b'5', 0o755, "", &[])
    }

    pub(super) fn file(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.entry(name, b'0', 0o644, "", bytes)
    }

    pub(super) fn program(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.entry(name, b'0', 0o755, "", bytes)
    }

    pub(super) fn link(&mut self, name: &str, to: &str) -> io::Result<()> {
        self.entry(name, b'2', 0o777, to, &[])
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn entry(
        &mut self,
        name: &str,
        kind: u8,
        mode: u32,
        link: &str,
        bytes: &[u8],
    ) -> io::Result<()> {
        let mut header = [0; BLOCK];
        let mut put = |at: usize, text: &str, room: usize| {
            if text.len() > room {
                return Err(io::Error::other(format!("{text}: over {room} bytes")));
            }
            header[at..at + text.len()].copy_from_slice(text.as_bytes());
            Ok(())
        };
        put(0, name, 100)?;
        put(100, &format!("{mode:07o}"), 7)?;
        put(108, "0000000", 7)?;
        put(116, "0000000", 7)?;
        put(124, &format!("{:011o}", bytes.len()), 11)?;
        put(136, "00000000000", 11)?;
        // The checksum is taken with blanks in its own place.
        put(148, "        ", 8)?;
        put(157, link, 100)?;
        put(257, "ustar\x0000", 8)?;
        header[156] = kind;
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.out.write_all(&header)?;
        self.out.write_all(bytes)?;
        let padding = bytes.len().next_multiple_of(BLOCK) - bytes.len();
        self.out.write_all(&[0; BLOCK][..padding])
    }
}

const BLOCK: usize = 512;

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_system_s_tar_reads_what_was_written() {
        let mut archive = Archive::new(Vec::new());
        archive.folder("lib").unwrap();
        archive.link("lib64", "lib").unwrap();
        archive.program("lib/a", b"12345").unwrap();
        archive.file("b", b"").unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len() % BLOCK, 0);
        let path = std::env::temp_dir().join(format!("tailwake-tar-{}", std::process::id()));
        std::fs::write(&path, &bytes).unwrap();
        let said = std::process::Command::new("tar")
            .arg("tvf")
            .arg(&path)
            .output()
            .unwrap();
        std::fs::remove_file(&path).unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let modes: Vec<&str> = said.lines().map(|line| &line[..10]).collect();
        assert_eq!(
            modes,
            ["drwxr-xr-x", "lrwxrwxrwx", "-rwxr-xr-x", "-rw-r--r--"]
        );
        assert!(said.contains("lib64 -> lib"));
        assert!(Archive::new(Vec::new()).folder(&"x".repeat(101)).is_err());
    }
}
