//! Path patterns.

use super::*;

#[test]
fn files_and_directories_are_picked_up_where_a_pattern_can_match() {
    let inputs = "files: {paths: ['DIR/log/**/*.log', 'DIR/one/{a,b}/x'], exclude: ['DIR/log/no/**', '**/y.log']}";
    let inputs = inputs.replace(", '**/y.log'", ", 'DIR/log/**/y.log'");
    let mut ground = Ground::new("globs", &inputs);
    for path in [
        "log/x.log",
        "log/y.log",
        "log/z.txt",
        "log/d/e/x.log",
        "log/no/x.log",
    ] {
        ground.write(path);
    }
    for path in ["one/a/x", "one/c/x", "log/x.log.gz"] {
        ground.write(path);
    }
    let want = ["there log/d/e/x.log", "there log/x.log", "there one/a/x"];
    let mut said = ground.start();
    said.sort();
    assert_eq!(said, want);
    // log, log/d, log/d/e, one/a; `one` is held in the place of one/b, which is awaited.
    assert_eq!(ground.tree.counts().0, 5);
    ground.write("log/f/g/new.log");
    ground.write("log/no/new.log");
    ground.write("one/b/x");
    assert_eq!(ground.turn(), ["found log/f/g/new.log", "found one/b/x"]);
    ground.remove("log/f");
    assert_eq!(ground.turn(), ["gone log/f/g/new.log"]);
    let key = "ended in:log/f/g/new.log";
    assert_eq!(ground.later(10_000), [key]);
    assert_eq!(ground.turn(), [""; 0]);
}

#[test]
fn rotation_stays_in_the_log_whether_the_pattern_matches_the_rotated_name_or_not() {
    let mut ground = Ground::new("rotate", "files: {paths: [DIR/a/*.log, DIR/b/*.log*]}");
    ground.write("a/x.log");
    ground.write("b/x.log");
    ground.write("b/x.log.1");
    let want = ["there a/x.log", "there b/x.log.1", "there b/x.log"];
    let mut events = Vec::new();
    ground.tree.start(&ground.files, &mut events);
    let mut said = ground.said(&events);
    said.sort();
    let mut sorted = want;
    sorted.sort();
    assert_eq!(said, sorted);
    let Event::Found { source, .. } = &events[1] else {
        unreachable!("a file was found");
    };
    let (log, key) = (source.log, Arc::clone(&source.key));
    assert_eq!(&*key, format!("in:{}/b/x.log", ground.dir.display()));

    ground.rename("a/x.log", "a/x.log.1");
    ground.write("a/x.log");
    ground.rename("b/x.log.1", "b/x.log.2");
    ground.rename("b/x.log", "b/x.log.1");
    ground.write("b/x.log");
    let mut events = Vec::new();
    ground.tree.turn(&ground.files, Mono(1), &mut events);
    let want = [
        "gone a/x.log",
        "found a/x.log",
        "moved b/x.log b/x.log.1",
        "moved b/x.log.1 b/x.log.2",
        "found b/x.log",
    ];
    assert_eq!(ground.said(&events), want);
    for event in &events[2..] {
        let (Event::Moved { source, .. } | Event::Found { source, .. }) = event else {
            unreachable!("none is gone");
        };
        assert_eq!(source.log, log);
    }
    // Nothing is told twice by the sweep.
    let mut events = Vec::new();
    ground.tree.sweep(&ground.files, &mut events);
    assert_eq!(ground.said(&events), [""; 0]);
}

#[test]
fn one_inode_is_one_file_and_another_path_takes_over() {
    let mut ground = Ground::new("inode", "files: {paths: ['DIR/**/*.log']}");
    ground.write("a/x.log");
    std::fs::create_dir(ground.at("b")).unwrap();
    std::fs::hard_link(ground.at("a/x.log"), ground.at("b/x.log")).unwrap();
    ground.link("a/x.log", "b/link.log");
    assert_eq!(ground.start(), ["there a/x.log"]);
    // A third path is not told of either.
    std::fs::hard_link(ground.at("a/x.log"), ground.at("a/a.log")).unwrap();
    assert_eq!(ground.turn(), [""; 0]);
    ground.remove("a/x.log");
    assert_eq!(ground.turn(), ["moved a/x.log a/a.log"]);
    ground.remove("a/a.log");
    assert_eq!(ground.turn(), ["moved a/a.log b/x.log"]);
    // Renamed into another directory, it goes on as well.
    ground.rename("b/x.log", "a/y.log");
    assert_eq!(ground.turn(), ["moved b/x.log a/y.log"]);
    ground.remove("a/y.log");
    assert_eq!(ground.turn(), ["gone a/y.log"]);
    let ended = ["ended in:a/x.log"];
    assert_eq!(ground.later(10_000), ended);
    ground.remove("b");
    ground.remove("a");
    ground.turn();
    assert_eq!(ground.tree.counts().3, 1);
}

#[test]
fn links_of_containers_lead_to_kubelets_files_and_bear_their_names() {
    let inputs = "files: {paths: [DIR/containers/*.log], link_roots: [DIR/pods, DIR/docker]}";
    let mut ground = Ground::new("containers", inputs);
    std::fs::create_dir(ground.at("containers")).unwrap();
    ground.start();
    let link = format!("containers/web-1_shop_app-{}.log", "0a".repeat(32));
    ground.write("docker/id/id.log");
    ground.link("docker/id/id.log", "pods/shop_web-1_uid/app/0.log");
    ground.link("pods/shop_web-1_uid/app/0.log", &link);
    let mut events = Vec::new();
    ground.tree.turn(&ground.files, Mono(1), &mut events);
    assert_eq!(ground.said(&events), [format!("found {link}")]);
    let Event::Found { source, .. } = &events[0] else {
        unreachable!("a file was found");
    };
    let meta = &source.meta;
    let names = [&meta.namespace, &meta.pod, &meta.container, &meta.uid];
    assert_eq!(names.map(|name| &**name), ["shop", "web-1", "app", ""]);
    // Both directories that the link leads over are watched.
    assert_eq!(ground.tree.counts().0, 3);
    ground.rename("docker/id/id.log", "docker/id/id.log.1");
    ground.write("docker/id/id.log");
    assert_eq!(
        ground.turn(),
        [format!("gone {link}"), format!("found {link}")]
    );
    // Kubelet removes its own file first: the link leads to nothing, and is then removed.
    ground.remove("pods/shop_web-1_uid/app/0.log");
    assert_eq!(ground.turn(), [format!("gone {link}")]);
    ground.remove(&link);
    ground.later(10_000);
    assert_eq!(ground.tree.counts(), (1, 1, 0, 1));
}

#[test]
fn what_is_no_regular_file_or_leads_out_is_not_told_of() {
    let mut ground = Ground::new("refused", "files: {paths: ['DIR/log/*.log']}");
    ground.write("etc/shadow");
    std::fs::create_dir_all(ground.at("log/dir.log")).unwrap();
    ground.link("etc/shadow", "log/shadow.log");
    ground.link("etc", "log/etc.log");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, ground.at("log/fifo.log"), fifo, mode, 0).unwrap();
    assert_eq!(ground.start(), [""; 0]);
    let refused = "tailwake_files_refused_total";
    assert_eq!(ground.value(refused), 2);
    ground.tree.sweep(&ground.files, &mut Vec::new());
    assert_eq!(ground.value(refused), 2, "once while they are there");
    ground.remove("log/shadow.log");
    ground.tree.sweep(&ground.files, &mut Vec::new());
    ground.link("etc/shadow", "log/shadow.log");
    ground.tree.sweep(&ground.files, &mut Vec::new());
    assert_eq!(ground.value(refused), 3);
}
