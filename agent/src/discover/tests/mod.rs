//! Discovery on real directories.

#![expect(clippy::unwrap_used, reason = "tests")]

mod churn;
mod globs;
mod limits;
mod pods;
mod standing;

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::*;
use crate::base::count::Registry;
use crate::base::files::Files;
use crate::base::time::Mono;
use crate::machine::MachineFiles;
use crate::ticket::Standing;

/// A directory of its own, a tree over it, and what it tells.
struct Ground<F: Files = MachineFiles> {
    dir: PathBuf,
    files: F,
    registry: Registry,
    tree: Tree,
    now: Mono,
}

/// `inputs` with DIR for the directory.
fn plan(dir: &Path, inputs: &str) -> crate::plan::Plan {
    let inputs = inputs.replace("DIR", &dir.display().to_string());
    let text = format!(
        "state: /nowhere\ninputs: {{in: {{{inputs}}}}}\npipelines: {{p: {{from: in, to: o}}}}\n\
         outputs: {{o: {{loki: {{url: 'http://127.0.0.1:1/push'}}}}}}\n"
    );
    crate::config::parse("test", &text, &|_| None).unwrap()
}

fn directory(name: &str) -> PathBuf {
    let name = format!("tailwake-discover-{name}-{}", std::process::id());
    // In memory, where the machine has that: some tests make thousands of files.
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() {
        memory.join(name)
    } else {
        std::env::temp_dir().join(name)
    };
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

impl Ground {
    fn new(name: &str, inputs: &str) -> Self {
        Self::with(name, inputs, |files| files)
    }
}

impl<F: Files> Ground<F> {
    fn with(name: &str, inputs: &str, wrap: impl FnOnce(MachineFiles) -> F) -> Self {
        let dir = directory(name);
        let (plan, registry) = (plan(&dir, inputs), Registry::default());
        Self {
            files: wrap(MachineFiles::watching(plan.allowed_roots()).unwrap()),
            tree: Tree::new(&plan, "node", &registry),
            registry,
            dir,
            now: Mono(0),
        }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.join(path)
    }

    fn write(&self, path: &str) {
        let path = self.at(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"x").unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        std::fs::rename(self.at(from), self.at(to)).unwrap();
    }

    fn remove(&self, path: &str) {
        let path = self.at(path);
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap();
        } else {
            std::fs::remove_file(path).unwrap();
        }
    }

    fn link(&self, to: &str, at: &str) {
        let at = self.at(at);
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        symlink(self.at(to), at).unwrap();
    }

    fn start(&mut self) -> Vec<String> {
        let mut events = Vec::new();
        self.tree.start(&self.files, &mut events);
        self.said(&events)
    }

    fn turn(&mut self) -> Vec<String> {
        self.later(1)
    }

    fn later(&mut self, ms: u64) -> Vec<String> {
        let mut events = Vec::new();
        self.now = self.now.plus_ms(ms);
        self.tree.turn(&self.files, self.now, &mut events);
        self.said(&events)
    }

    /// What was told, with paths below the directory.
    fn said(&self, events: &[Event]) -> Vec<String> {
        let short = |text: &str| text.replace(&format!("{}/", self.dir.display()), "");
        let path = |path: &Path| short(&path.to_string_lossy());
        let say = |event: &Event| match event {
            Event::Found {
                source,
                path: at,
                at_start,
                at_end,
                ..
            } => {
                let how = match (at_end, at_start) {
                    (true, _) => "again",
                    (false, true) => "there",
                    (false, false) => "found",
                };
                let held = match source.standing {
                    Standing::Read => String::new(),
                    standing => format!(" {standing:?}"),
                };
                format!("{how} {}{held}", path(at))
            }
            Event::Moved { from, to, .. } => format!("moved {} {}", path(from), path(to)),
            Event::Gone { path: at, .. } => format!("gone {}", path(at)),
            Event::Changed { source } => {
                let app = source.meta.field("labels.app").map_or("-", |app| app);
                format!("changed {} {:?} {app}", short(&source.key), source.standing)
            }
            Event::Ended { source } => format!("ended {}", short(&source.key)),
        };
        events.iter().map(say).collect()
    }

    fn value(&self, name: &str) -> u64 {
        self.registry.value(name)
    }
}

impl<F: Files> Drop for Ground<F> {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
