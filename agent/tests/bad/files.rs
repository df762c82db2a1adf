//! Names in the tree that are no log, logs that may not be read, and logs that are gone.

use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use crate::agent::{Agent, Setup};
use crate::bed::{Bed, Log};
use crate::sink::{Manner, Sink};

/// `nobody`, on any Linux.
const NOBODY: u32 = 65_534;

fn open_to(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn directories_fifos_and_links_are_not_read_and_counted_once_each() {
    let (bed, sink) = (Bed::new("kinds"), Sink::start(Manner::Good));
    let outside = bed.path("outside");
    std::fs::create_dir_all(outside.join("app")).unwrap();
    Log::open(&outside.join("app/0.log")).line("secret");
    let bad = bed.container("bad");
    std::fs::create_dir(bad.join("0.log")).unwrap();
    let made = Command::new("mkfifo").arg(bad.join("1.log")).status();
    assert!(made.unwrap().success());
    symlink(outside.join("app/0.log"), bad.join("2.log")).unwrap();
    symlink(&outside, bed.path("pods").join("ns_link_uid")).unwrap();
    // Kubelet's own: counted, and no word about it.
    std::fs::write(bad.join("0.log.20261124-051501.tmp"), b"x").unwrap();
    let mut agent = Agent::start(&bed, &Setup::to(&sink));
    let kinds = ("tailwake_names_skipped_total", &["reason=\"kind\""][..]);
    agent.awaits_metric(kinds.0, kinds.1, 3);
    // A link to a file is looked at, since docker's are links, and this one leads out.
    let refused = "tailwake_files_refused_total";
    agent.awaits_metric(refused, &[], 1);
    agent.awaits_metric(kinds.0, &["reason=\"name\""], 1);

    // Some more while it runs; each new name has the directory listed again.
    for number in 10..30 {
        symlink("/proc/kmsg", bad.join(format!("{number}.log"))).unwrap();
    }
    let good = bed.write("good", "good", 200);
    agent.awaits_texts(&sink, "good", &good);
    agent.awaits_metric(refused, &[], 21);
    agent.assert_said_once("neither a file nor a directory");
    agent.assert_said_once("it leads out of the directories that may be read");
    Log::open(&bad.join("3.log")).line("a log at last");
    agent.awaits_texts(&sink, "bad", &["a log at last".to_owned()]);
    assert_eq!(agent.metric(kinds.0, kinds.1), 3);
    assert_eq!(agent.metric(refused, &[]), 21);
    assert!(sink.texts("link").is_empty());
    agent.end();
}

#[test]
fn what_may_not_be_read_is_counted_said_once_and_read_once_it_may() {
    let (bed, sink) = (Bed::new("permission"), Sink::start(Manner::Good));
    let mut setup = Setup::to(&sink);
    // Root reads everything: the agent runs as somebody who does not.
    let root = std::fs::metadata(bed.path("pods")).is_ok_and(|dir| {
        use std::os::unix::fs::MetadataExt as _;
        dir.uid() == 0
    });
    setup.user = root.then_some(NOBODY);
    setup.more = "wake: {sweep: 1s}";
    std::fs::create_dir(bed.path("state")).unwrap();
    open_to(&bed.path("state"), 0o777);
    let mut want = Vec::new();
    for number in 0..30 {
        let pod = format!("bad{number}");
        want.push((pod.clone(), bed.write(&pod, "kept", 3)));
        open_to(&bed.container(&pod).join("0.log"), 0);
    }
    bed.write("closed", "kept", 3);
    open_to(&bed.container("closed"), 0);
    let mut agent = Agent::start(&bed, &setup);
    let good = bed.write("good", "good", 200);
    agent.awaits_texts(&sink, "good", &good);
    agent.awaits_metric("tailwake_files_unopened", &[], 30);
    agent.awaits("opens and listings are counted", |agent| {
        agent.metric("tailwake_open_errors_total", &[]) >= 30
            && agent.metric("tailwake_list_errors_total", &[]) >= 1
    });
    agent.assert_said_once("cannot open a log file");
    agent.assert_said_once("cannot list a directory");
    assert!(agent.get("/healthz").is_ok());

    // One is renamed, and one deleted: its lines are lost to every output.
    let renamed = bed.container("bad1").join("0.log");
    std::fs::rename(&renamed, renamed.with_extension("log.20261124-051501")).unwrap();
    std::fs::remove_dir_all(bed.pod("bad0")).unwrap();
    agent.awaits_metric("tailwake_unread_files_total", &["output=\"good\""], 1);
    agent.assert_said_once("a log file was deleted before it could be opened");
    agent.awaits("the others are known", |agent| {
        agent.metric("tailwake_files_unopened", &[]) == 29
    });
    want.remove(0);
    for (pod, _) in &want {
        for file in std::fs::read_dir(bed.container(pod)).unwrap() {
            open_to(&file.unwrap().path(), 0o644);
        }
    }
    open_to(&bed.pod("closed").join("app"), 0o755);
    want.push((
        "closed".to_owned(),
        (0..3).map(|number| format!("kept {number}")).collect(),
    ));
    for (pod, texts) in &want {
        agent.awaits_texts(&sink, pod, texts);
    }
    assert_eq!(agent.metric("tailwake_files_unopened", &[]), 0);
    agent.end();
}

#[test]
fn what_was_deleted_while_the_agent_was_down_is_forgotten_and_what_was_unread_is_counted() {
    let bed = Bed::new("unfound");
    let (sink, silent) = (Sink::start(Manner::Good), Sink::start(Manner::Silent));
    let setup = Setup::to(&sink).and(silent.bulk());
    let mut agent = Agent::start(&bed, &setup);
    let gone = bed.write("gone", "gone", 300);
    let good = bed.write("good", "good", 200);
    agent.awaits_texts(&sink, "good", &good);
    agent.awaits_texts(&sink, "gone", &gone);
    agent.end();
    let bytes = std::fs::metadata(bed.container("gone").join("0.log")).unwrap();
    let positions = || std::fs::read_to_string(bed.path("state/positions")).unwrap_or_default();
    assert!(positions().contains("ns_gone_gone-uid/app"));
    std::fs::remove_dir_all(bed.pod("gone")).unwrap();

    silent.behave(Manner::Good);
    let mut agent = Agent::start(&bed, &setup);
    let bad = &["output=\"bad\""][..];
    agent.awaits_metric("tailwake_unread_bytes_total", bad, bytes.len());
    agent.awaits_metric("tailwake_unread_files_total", bad, 1);
    let good_lost = agent.metric("tailwake_unread_bytes_total", &["output=\"good\""]);
    assert_eq!(good_lost, 0);
    agent.assert_said_once("files were deleted before they were read");
    agent.awaits("the positions file forgets it", |_| {
        let text = positions();
        text.contains("ns_good_good-uid") && !text.contains("ns_gone_gone-uid")
    });
    agent.awaits_each(&silent, "good", &good);
    agent.awaits_texts(&sink, "good", &good);
    agent.end();
}

#[test]
fn what_a_truncation_took_from_an_output_is_counted() {
    let bed = Bed::new("truncated");
    let (sink, silent) = (Sink::start(Manner::Good), Sink::start(Manner::Silent));
    let mut agent = Agent::start(&bed, &Setup::to(&sink).and(silent.loki()));
    let mut bad = bed.write("bad", "first", 3_000);
    agent.awaits_texts(&sink, "bad", &bad);
    let path = bed.container("bad").join("0.log");
    let size = std::fs::metadata(&path).unwrap().len();
    agent.awaits("the silent output is left behind", |agent| {
        agent.status()["outputs"]["bad"]["detached"] == true
    });
    std::fs::File::create(&path).unwrap();
    bad.extend(bed.write("bad", "second", 10));
    agent.awaits_texts(&sink, "bad", &bad);
    let good = bed.write("good", "good", 200);
    agent.awaits_texts(&sink, "good", &good);
    agent.awaits_metric("tailwake_truncations_total", &[], 1);
    // It never answered: all of the file was lost to it but what is on its way there still.
    agent.awaits_metric("tailwake_unread_bytes_total", &["output=\"bad\""], size);
    let good_lost = agent.metric("tailwake_unread_bytes_total", &["output=\"good\""]);
    assert_eq!(good_lost, 0);
    agent.assert_said_once("a file was truncated");
    silent.behave(Manner::Good);
    agent.awaits("what came after it", |_| {
        let texts = silent.texts("bad");
        bad[3_000..].iter().all(|text| texts.contains(text))
    });
    agent.end();
}

#[test]
fn one_inotify_instance_watches_all_directories() {
    let (bed, sink) = (Bed::new("instances"), Sink::start(Manner::Good));
    let mut setup = Setup::to(&sink);
    // No instance for wakes, and several readers.
    setup.more = "wake: {rung: sweep, sweep: 1s}\nlimits: {readers: 3, encoders: 1}";
    let mut agent = Agent::start(&bed, &setup);
    let good = bed.write("good", "good", 10);
    agent.awaits_texts(&sink, "good", &good);
    // The runtime waits for a second descriptor of the instance: it has the same watches.
    let process = format!("/proc/{}", agent.process());
    let watches: BTreeSet<Vec<String>> = std::fs::read_dir(format!("{process}/fd"))
        .unwrap()
        .filter_map(|fd| {
            let fd = fd.ok()?;
            let link = std::fs::read_link(fd.path()).ok()?;
            let number = fd.file_name().into_string().ok()?;
            let facts = std::fs::read_to_string(format!("{process}/fdinfo/{number}")).ok()?;
            let watches = facts.lines().filter(|line| line.starts_with("inotify "));
            let watches = watches.map(str::to_owned).collect();
            link.ends_with("anon_inode:inotify").then_some(watches)
        })
        .collect();
    assert_eq!(watches.len(), 1, "{watches:?}");
    assert_eq!(
        watches.first().map(Vec::len),
        Some(3),
        "root, pod, container"
    );
    agent.end();
}
