#![expect(clippy::unwrap_used, reason = "tests")]
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode};

use super::*;
use crate::base::files::Refusal;

fn dir(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("tailwake-machine-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// A tree of two roots and a directory out of them; each test runs through both resolvers.
struct Ground {
    dir: PathBuf,
    both: [MachineFiles; 2],
}

impl Ground {
    fn new(name: &str) -> Self {
        let dir = dir(name);
        for made in ["pods/p/c", "docker/id", "etc"] {
            std::fs::create_dir_all(dir.join(made)).unwrap();
        }
        std::fs::write(dir.join("etc/shadow"), b"secret").unwrap();
        std::fs::write(dir.join("docker/id/id.log"), b"docker").unwrap();
        std::fs::write(dir.join("pods/p/c/0.log"), b"plain").unwrap();
        let roots = || vec![dir.join("pods"), dir.join("docker")];
        let with = |roots| MachineFiles {
            roots,
            watching: None,
        };
        let both = [with(Roots::new(roots())), with(Roots::walking(roots()))];
        Self { dir, both }
    }

    fn link(&self, to: impl AsRef<Path>, at: &str) {
        symlink(to, self.dir.join(at)).unwrap();
    }

    /// What opening `path` gives: the content, or why not.
    fn check(&self, path: &str, want: Result<&str, Refusal>) {
        for files in &self.both {
            let opened = files.open_log(&self.dir.join(path));
            let walks = files.roots.walks();
            match (opened, want) {
                (Ok(file), Ok(want)) => {
                    assert_eq!(std::io::read_to_string(file).unwrap(), want, "{path}");
                }
                (Err(error), Err(want)) => {
                    assert_eq!(Refusal::of(&error), Some(want), "{path} {walks}: {error}");
                }
                (opened, want) => {
                    assert_eq!(format!("{opened:?}"), format!("{want:?}"), "{path} {walks}")
                }
            }
        }
    }

    fn error(&self, path: &str) -> io::ErrorKind {
        let kinds = self.both.each_ref().map(|files| {
            let opened = files.open_log(&self.dir.join(path));
            opened.unwrap_err().kind()
        });
        assert_eq!(kinds[0], kinds[1], "{path}");
        kinds[0]
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn plain_files_and_links_within_the_roots_are_opened() {
    let ground = Ground::new("within");
    ground.check("pods/p/c/0.log", Ok("plain"));
    ground.link(ground.dir.join("docker/id/id.log"), "pods/p/c/1.log");
    ground.check("pods/p/c/1.log", Ok("docker"));
    ground.link("../../p/c/1.log", "pods/p/c/2.log");
    ground.check("pods/p/c/2.log", Ok("docker"));
    // A directory on the way may be a link too.
    ground.link("c", "pods/p/again");
    ground.check("pods/p/again/0.log", Ok("plain"));
    let [files, walks] = &ground.both;
    let hops = files.links(&ground.dir.join("pods/p/c/2.log"));
    assert_eq!(hops.len(), 2);
    assert!(hops[1].ends_with("docker/id/id.log"), "{hops:?}");
    assert_eq!(hops, walks.links(&ground.dir.join("pods/p/c/2.log")));
    assert!(files.links(&ground.dir.join("pods/p/c/0.log")).is_empty());
    // A link that leads to nothing yet still tells where.
    ground.link(ground.dir.join("docker/id/later.log"), "pods/p/c/3.log");
    assert_eq!(ground.error("pods/p/c/3.log"), io::ErrorKind::NotFound);
    assert_eq!(files.links(&ground.dir.join("pods/p/c/3.log")).len(), 1);
}

#[test]
fn links_out_of_the_roots_are_refused() {
    let ground = Ground::new("out");
    let shadow = ground.dir.join("etc/shadow");
    ground.link(&shadow, "pods/p/c/1.log");
    ground.link("../../../etc/shadow", "pods/p/c/2.log");
    ground.link(ground.dir.join("etc"), "pods/p/etc");
    ground.link(ground.dir.join("docker/../etc/shadow"), "pods/p/c/3.log");
    ground.link("/proc/self/root/etc/passwd", "pods/p/c/4.log");
    for bad in ["c/1.log", "c/2.log", "etc/shadow", "c/3.log", "c/4.log"] {
        ground.check(&format!("pods/p/{bad}"), Err(Refusal::OutOfRoots));
    }
    // Paths that lie out of the roots, or say so with `..`.
    ground.check("etc/shadow", Err(Refusal::OutOfRoots));
    ground.check("pods/../etc/shadow", Err(Refusal::OutOfRoots));
    ground.check("pods", Err(Refusal::OutOfRoots));
    // A sibling that only begins like a root is none.
    std::fs::create_dir(ground.dir.join("pods2")).unwrap();
    std::fs::write(ground.dir.join("pods2/x.log"), b"x").unwrap();
    ground.link(ground.dir.join("pods2/x.log"), "pods/p/c/5.log");
    ground.check("pods/p/c/5.log", Err(Refusal::OutOfRoots));
}

#[test]
fn chains_of_three_links_and_loops_are_refused() {
    let ground = Ground::new("chains");
    ground.link("0.log", "pods/p/c/1.log");
    ground.link("1.log", "pods/p/c/2.log");
    ground.link("2.log", "pods/p/c/3.log");
    ground.check("pods/p/c/2.log", Ok("plain"));
    ground.check("pods/p/c/3.log", Err(Refusal::TooManyLinks));
    ground.link("4.log", "pods/p/c/4.log");
    ground.link("6.log", "pods/p/c/5.log");
    ground.link("5.log", "pods/p/c/6.log");
    ground.link("loop", "pods/p/loop");
    for bad in ["c/4.log", "c/5.log", "loop/0.log"] {
        ground.check(&format!("pods/p/{bad}"), Err(Refusal::TooManyLinks));
    }
}

#[test]
fn what_is_no_regular_file_is_refused_without_being_opened() {
    let ground = Ground::new("kinds");
    let make = |name: &str, kind, device| {
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(CWD, ground.dir.join(name), kind, mode, device)
    };
    make("pods/p/c/fifo.log", FileType::Fifo, 0).unwrap();
    make("docker/id/socket.log", FileType::Socket, 0).unwrap();
    ground.link(ground.dir.join("docker/id/socket.log"), "pods/p/c/s.log");
    for bad in ["pods/p/c/fifo.log", "pods/p/c/s.log", "pods/p/c"] {
        ground.check(bad, Err(Refusal::NotRegular));
    }
    // Who may not make devices has one checked by the kernel's own.
    let device = rustix::fs::makedev(1, 5);
    if make("pods/p/c/zero.log", FileType::CharacterDevice, device).is_ok() {
        ground.check("pods/p/c/zero.log", Err(Refusal::NotRegular));
    }
    let [files, walks] = [Roots::new, Roots::walking].map(|new| new(vec!["/dev".into()]));
    for roots in [files, walks] {
        let error = roots.open(Path::new("/dev/zero"), &mut Vec::new());
        let refusal = Refusal::of(&error.unwrap_err());
        assert_eq!(refusal, Some(Refusal::NotRegular));
    }
}

#[test]
fn magic_links_are_only_their_text() {
    use std::os::fd::AsRawFd as _;
    let ground = Ground::new("magic");
    let secret = File::open(ground.dir.join("etc/shadow")).unwrap();
    let magic = format!("/proc/self/fd/{}", secret.as_raw_fd());
    ground.link(&magic, "pods/p/c/1.log");
    ground.check("pods/p/c/1.log", Err(Refusal::OutOfRoots));
    // Even with /proc as a root, the link's text is followed, and that leads out.
    let pid = std::process::id();
    let proc = PathBuf::from(format!("/proc/{pid}/fd"));
    for new in [Roots::new, Roots::walking] {
        let roots = new(vec![proc.clone()]);
        let path = proc.join(secret.as_raw_fd().to_string());
        let error = roots.open(&path, &mut Vec::new()).unwrap_err();
        assert_eq!(Refusal::of(&error), Some(Refusal::OutOfRoots));
    }
}

#[test]
fn a_directory_swapped_for_a_link_after_the_listing_leads_nowhere() {
    let ground = Ground::new("swap");
    let path = ground.dir.join("pods/p/c");
    assert_eq!(ground.both[0].list(&path).unwrap().len(), 1);
    std::fs::write(ground.dir.join("etc/0.log"), b"secret").unwrap();
    std::fs::rename(&path, ground.dir.join("pods/p/old")).unwrap();
    ground.link(ground.dir.join("etc"), "pods/p/c");
    ground.check("pods/p/c/0.log", Err(Refusal::OutOfRoots));
    // And for a file.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, b"").unwrap();
    let kind = ground.error("pods/p/c/0.log");
    assert_eq!(kind, io::ErrorKind::NotADirectory);
}

#[test]
fn roots_may_be_links_and_may_come_later() {
    let dir = dir("roots");
    std::fs::create_dir_all(dir.join("real/p")).unwrap();
    std::fs::write(dir.join("real/p/0.log"), b"x").unwrap();
    symlink(dir.join("real"), dir.join("root")).unwrap();
    symlink(dir.join("real/p/0.log"), dir.join("real/p/1.log")).unwrap();
    for new in [Roots::new, Roots::walking] {
        let _ = std::fs::remove_dir_all(dir.join("later"));
        let roots = new(vec![dir.join("root"), dir.join("later")]);
        let open = |path: &str| roots.open(&dir.join(path), &mut Vec::new());
        assert!(open("root/p/0.log").is_ok());
        assert!(open("root/p/1.log").is_ok());
        assert!(open("later/0.log").is_err());
        std::fs::create_dir(dir.join("later")).unwrap();
        std::fs::write(dir.join("later/0.log"), b"x").unwrap();
        assert!(open("later/0.log").is_ok());
        // Deleted and made again: the descriptor of the old one is given up.
        std::fs::remove_dir_all(dir.join("later")).unwrap();
        std::fs::create_dir(dir.join("later")).unwrap();
        std::fs::write(dir.join("later/1.log"), b"x").unwrap();
        assert!(open("later/1.log").is_ok());
    }
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_watched_directory_tells_what_came_and_left() {
    let (files, dir) = (MachineFiles::watching(Vec::new()).unwrap(), dir("watch"));
    let id = files.watch(&dir).unwrap();
    std::fs::write(dir.join("a"), b"").unwrap();
    std::fs::rename(dir.join("a"), dir.join("b")).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    let descriptor = files.descriptor().unwrap();
    let readable = rustix::event::PollFlags::IN;
    let mut waits = [rustix::event::PollFd::new(&descriptor, readable)];
    let none = rustix::event::Timespec::default();
    assert_eq!(rustix::event::poll(&mut waits, Some(&none)).unwrap(), 1);
    let mut events = Vec::new();
    files.events(&mut events).unwrap();
    let (came, left) = (
        |name: &str| DirEvent::Came(id, name.into()),
        |name: &str| DirEvent::Left(id, name.into()),
    );
    assert_eq!(
        events,
        [
            came("a"),
            left("a"),
            came("b"),
            left("b"),
            DirEvent::Ended(id)
        ]
    );
}

#[test]
fn state_is_replaced_whole() {
    let (files, dir) = (MachineFiles::default(), dir("state"));
    let path = dir.join("positions");
    files.replace(&path, b"one").unwrap();
    files.replace(&path, b"two").unwrap();
    assert_eq!(files.load(&path).unwrap(), b"two");
    assert_eq!(files.list(&dir).unwrap().len(), 1);
    std::fs::remove_dir_all(dir).unwrap();
}
