//! Kubelet and its runtime: pods that come, write, rotate, restart and go.
//!
//! 1. A directory is made before what stands in it, and agents may look in between.
//! 2. A file is deleted only when the agent has it open, or stored positions are past it: what is lost
//!    otherwise is kubelet's doing and nobody's fault.
//! 3. A pod's directories go after its files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::books::Books;
use crate::rng::Rng;
use crate::trace::Trace;
use crate::world::{Key, World};
use crate::writer::{Generation, Kind, Writer};

/// Pods that a run may see.
const PODS_MAX: usize = 4;

/// How far a pod has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Age {
    /// Its directory is there.
    Made,
    /// Its containers' directories are there.
    Furnished,
    /// Its containers write.
    Runs,
    /// It is deleted: its files go, then its directories.
    Ending,
    /// Nothing is left of it.
    Gone,
}

/// How much of a pod is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    There,
    Ending,
    Gone,
}

/// A pod as the Kubernetes API has it.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) uid: String,
    pub(crate) name: String,
    pub(crate) presence: Presence,
}

#[derive(Debug)]
struct Pod {
    directory: PathBuf,
    writers: Vec<Writer>,
    age: Age,
    /// When its files go, once it has ended.
    goes: Option<u64>,
    /// They go soon: some server may not have all of them yet.
    early: bool,
}

/// One node.
#[derive(Debug)]
pub(crate) struct Node {
    root: PathBuf,
    world: World,
    trace: Trace,
    pods: Vec<Pod>,
    containers: usize,
    /// Files that stored positions say to be settled up to these sizes by every output.
    pub(crate) durable: BTreeMap<Key, u64>,
    /// Kubelet deletes a pod's files so long after its end.
    pub(crate) unlink_ms: u64,
    pub(crate) rotations: u64,
    pub(crate) deletions: u64,
}

impl Node {
    /// A node with no pod.
    pub(crate) fn new(root: &Path, world: World, trace: Trace) -> Self {
        Self {
            root: root.to_owned(),
            world,
            trace,
            pods: Vec::new(),
            containers: 0,
            durable: BTreeMap::new(),
            unlink_ms: 400,
            rotations: 0,
            deletions: 0,
        }
    }

    /// A pod comes, with one or two containers.
    pub(crate) fn add_pod(&mut self, rng: &mut Rng, books: &mut Books) {
        if self.pods.len() >= PODS_MAX {
            return;
        }
        let namespace = ["shop", "work"][rng.place(2)];
        let pod = format!("web.{}", self.pods.len());
        let directory = self
            .root
            .join(format!("{namespace}_{pod}_0a-{}", self.pods.len()));
        let mut writers = Vec::new();
        for _ in 0..=rng.below(2) {
            let kind = [Kind::Plain, Kind::Json, Kind::Blocks][rng.place(3)];
            let word = match kind {
                Kind::Plain => "app",
                Kind::Json => "api",
                Kind::Blocks => "java",
            };
            // Only the shop's blocks are joined: elsewhere their lines go as they are.
            let name = format!("{word}-{}", self.containers);
            self.containers += 1;
            let number = books.container(namespace, &pod, &name);
            writers.push(Writer::new(number, kind, &directory.join(&name)));
        }
        self.world.make_directory(&directory);
        self.trace
            .say(|| format!("node: {} is made", directory.display()));
        self.pods.push(Pod {
            directory,
            writers,
            age: Age::Made,
            goes: None,
            early: false,
        });
    }

    /// A pod of one container that runs at once, with an empty file; gives its number.
    pub(crate) fn run_pod(&mut self, pod: &str, books: &mut Books) -> usize {
        self.run_pod_of(Kind::Plain, pod, books)
    }

    /// The same, whose lines are of this kind.
    pub(crate) fn run_pod_of(&mut self, kind: Kind, pod: &str, books: &mut Books) -> usize {
        let number = self.pods.len();
        let directory = self.root.join(format!("work_{pod}_0a-{number}"));
        let container = books.container("work", pod, "app");
        let mut writer = Writer::new(container, kind, &directory.join("app"));
        self.world.make_directory(&directory);
        self.world.make_directory(writer.directory());
        writer.open(&self.world, &self.trace);
        self.pods.push(Pod {
            directory,
            writers: vec![writer],
            age: Age::Runs,
            goes: None,
            early: false,
        });
        number
    }

    /// The container of a pod that was made by `run_pod`.
    pub(crate) fn writer(&mut self, pod: usize) -> &mut Writer {
        &mut self.pods[pod].writers[0]
    }

    fn running(&mut self) -> impl Iterator<Item = &mut Writer> {
        let pods = self.pods.iter_mut().filter(|pod| pod.age == Age::Runs);
        pods.flat_map(|pod| &mut pod.writers)
    }

    /// Something happens on the node.
    pub(crate) fn act(&mut self, now: u64, rng: &mut Rng, books: &mut Books) {
        let (world, trace) = (self.world.clone(), self.trace.clone());
        let number = self.running().count();
        let at = if number > 0 { rng.place(number) } else { 0 };
        let what = rng.below(100);
        match what {
            0..2 => self.add_pod(rng, books),
            2 => self.end_pod(rng, books, None),
            3..10 => self.delete(rng, books),
            _ => {}
        }
        let Some(writer) = self.running().nth(at) else {
            return;
        };
        match what {
            10..45 => writer.compose(rng, books),
            45..49 => {
                let gap = if rng.chance(70) { 4 } else { 100 };
                writer.rotate((now, now + rng.below(gap)), &world, books, &trace);
                self.rotations += 1;
            }
            49 => writer.restart(&world, &trace),
            _ => {}
        }
        self.write(rng, books, 40);
    }

    /// Containers write what waits, each `percent` times in a hundred.
    pub(crate) fn write(&mut self, rng: &mut Rng, books: &mut Books, percent: u64) {
        let (world, trace) = (self.world.clone(), self.trace.clone());
        for writer in self.running() {
            if rng.chance(percent) {
                writer.write(&world, rng, books, &trace);
            }
        }
    }

    /// Time goes on.
    pub(crate) fn pass(&mut self, now: u64, books: &Books) {
        let (world, trace) = (self.world.clone(), self.trace.clone());
        for pod in &mut self.pods {
            pod.writers
                .iter_mut()
                .for_each(|it| it.pass(&world, now, &trace));
            match pod.age {
                Age::Made => {
                    let directories = pod.writers.iter().map(Writer::directory);
                    directories.for_each(|directory| world.make_directory(directory));
                    pod.age = Age::Furnished;
                }
                Age::Furnished => {
                    pod.writers
                        .iter_mut()
                        .for_each(|it| it.open(&world, &trace));
                    pod.age = Age::Runs;
                }
                Age::Ending
                    if now < *pod.goes.get_or_insert(now + pod.unlink_ms(self.unlink_ms)) => {}
                Age::Ending => pod.clear(&world, books, &trace),
                Age::Runs | Age::Gone => {}
            }
        }
    }

    /// A pod is deleted: the one at `at`, or some one. It must have written all.
    pub(crate) fn end_pod(&mut self, rng: &mut Rng, books: &mut Books, at: Option<usize>) {
        if self.pods.is_empty() {
            return;
        }
        let at = at.unwrap_or_else(|| rng.place(self.pods.len()));
        let pod = &mut self.pods[at];
        if pod.age != Age::Runs || !pod.writers.iter().all(Writer::is_done) {
            return;
        }
        pod.age = Age::Ending;
        pod.early = self.unlink_ms == 0 || rng.chance(10);
        self.trace
            .say(|| format!("node: {} ends", pod.directory.display()));
        for writer in &mut pod.writers {
            writer.end(&self.world, rng, books, &self.trace);
        }
    }

    /// Every pod is deleted.
    pub(crate) fn end_all(&mut self, rng: &mut Rng, books: &mut Books) {
        (0..self.pods.len()).for_each(|at| self.end_pod(rng, books, Some(at)));
    }

    /// The oldest files go.
    fn delete(&mut self, rng: &mut Rng, books: &Books) {
        let (world, trace) = (self.world.clone(), self.trace.clone());
        let durable = std::mem::take(&mut self.durable);
        let mut deletions = 0;
        for writer in self.running() {
            let Some(oldest) = writer.oldest() else {
                continue;
            };
            let key = writer.files[oldest].key;
            // Kubelet keeps some files; few are deleted before every server has them.
            let open = world.is_open(key) && books.stands_alone(key);
            let open = open && (books.is_settled(key) || rng.chance(5));
            if open || durable.get(&key) == Some(&writer.files[oldest].size) {
                writer.delete(oldest, &world, &trace);
                deletions += 1;
            }
        }
        self.durable = durable;
        self.deletions += deletions;
    }

    /// Whether bytes are under way.
    pub(crate) fn is_busy(&self) -> bool {
        let mut writers = self.pods.iter().flat_map(|pod| &pod.writers);
        writers.any(Writer::is_busy)
    }

    /// Whether nothing is to be written, made or removed.
    pub(crate) fn is_done(&self) -> bool {
        self.pods.iter().all(|pod| match pod.age {
            Age::Made | Age::Furnished | Age::Ending => false,
            Age::Runs => pod.writers.iter().all(Writer::is_done),
            Age::Gone => true,
        })
    }

    /// When a renamed file is followed by its new one.
    pub(crate) fn due(&self, now: u64) -> Option<u64> {
        let writers = self.pods.iter().flat_map(|pod| &pod.writers);
        let goes = self.pods.iter().filter(|pod| pod.age == Age::Ending);
        let goes = goes.filter_map(|pod| pod.goes.filter(|goes| *goes > now));
        goes.chain(writers.filter_map(Writer::reopens)).min()
    }

    /// Deleted files.
    pub(crate) fn deleted(&self) -> Vec<Key> {
        let writers = self.pods.iter().flat_map(|pod| &pod.writers);
        let files = writers.flat_map(|writer| &writer.files);
        files
            .filter(|file| file.deleted)
            .map(|file| file.key)
            .collect()
    }

    /// All pods that there ever were.
    pub(crate) fn pods(&self) -> impl Iterator<Item = Named> {
        self.pods.iter().filter_map(|pod| {
            let directory = pod.directory.file_name()?.to_str()?;
            let (_, rest) = directory.split_once('_')?;
            let (name, uid) = rest.split_once('_')?;
            let presence = match pod.age {
                Age::Made | Age::Furnished | Age::Runs => Presence::There,
                Age::Ending => Presence::Ending,
                Age::Gone => Presence::Gone,
            };
            let (uid, name) = (uid.to_owned(), name.to_owned());
            Some(Named {
                uid,
                name,
                presence,
            })
        })
    }

    /// Container logs whose directories are there.
    pub(crate) fn logs(&self) -> usize {
        let there = self.pods.iter().filter(|pod| pod.age == Age::Runs);
        there.map(|pod| pod.writers.len()).sum()
    }

    /// The files that are there: log name, key, path, size.
    pub(crate) fn files(&self) -> impl Iterator<Item = (String, Key, &Path, u64)> {
        let writers = self.pods.iter().flat_map(|pod| &pod.writers);
        writers.flat_map(|writer| {
            let plain = |file: &&Generation| !file.deleted && !file.stands_in;
            let there = writer.files.iter().filter(plain);
            let log = writer.directory().strip_prefix(&self.root);
            let log = log.unwrap_or(writer.directory()).display().to_string();
            there.map(move |file| (log.clone(), file.key, file.path.as_path(), file.size))
        })
    }
}

impl Pod {
    /// How long its files outlive it: few go at once, since a crash then takes what they held.
    const fn unlink_ms(&self, least: u64) -> u64 {
        if self.early { least } else { 5 * least }
    }

    /// A container's files go together when they may, then the directories.
    fn clear(&mut self, world: &World, books: &Books, trace: &Trace) {
        let mut left = false;
        for writer in &mut self.writers {
            let there = writer.files.iter().filter(|file| !file.deleted);
            let mut keys = there.map(|file| file.key);
            if !keys.all(|key| world.is_open(key) || books.is_settled(key)) {
                left = true;
                continue;
            }
            for at in 0..writer.files.len() {
                if !writer.files[at].deleted {
                    writer.delete(at, world, trace);
                }
            }
        }
        if left {
            return;
        }
        let directories = self.writers.iter().map(Writer::directory);
        directories.for_each(|directory| world.remove_directory(directory));
        world.remove_directory(&self.directory);
        trace.say(|| format!("node: {} is gone", self.directory.display()));
        self.age = Age::Gone;
    }
}
