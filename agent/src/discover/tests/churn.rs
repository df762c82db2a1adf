//! Many files coming and going: nothing is left behind.

use super::*;

/// Descriptors that lead to the ground's directory; other tests have theirs in the same process.
fn descriptors(dir: &Path) -> usize {
    let all = std::fs::read_dir("/proc/self/fd").unwrap();
    let to = all.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    to.filter(|to| to.starts_with(dir)).count()
}

/// Watches that the kernel counts on the instance.
fn watches(files: &MachineFiles) -> usize {
    use std::os::fd::AsRawFd as _;
    let fd = files.inotify_of_test().unwrap().as_raw_fd();
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap();
    text.lines()
        .filter(|line| line.starts_with("inotify wd"))
        .count()
}

fn churn(name: &str, inputs: &str) {
    let mut ground = Ground::new(name, inputs);
    std::fs::create_dir(ground.at("pods")).unwrap();
    std::fs::create_dir(ground.at("docker")).unwrap();
    ground.start();
    // The roots are opened when they are first needed, and stay open.
    for root in ["pods", "docker"] {
        assert!(ground.files.open_log(&ground.at(root).join("x")).is_err());
    }
    let before = (
        descriptors(&ground.dir),
        watches(&ground.files),
        ground.tree.counts(),
        ground.registry.render().lines().count(),
    );
    let (mut found, mut ended) = (0, 0);
    // 500 pods of 20 files in waves of 50, each removed when the next is there.
    for wave in 0..11 {
        for pod in (wave * 50..wave * 50 + 50).filter(|pod| *pod < 500) {
            for file in 0..19 {
                ground.write(&format!("pods/ns_pod-{pod}_uid/app/{file}.log"));
            }
            ground.write(&format!("docker/{pod}/{pod}.log"));
            let target = format!("docker/{pod}/{pod}.log");
            ground.link(&target, &format!("pods/ns_pod-{pod}_uid/app/19.log"));
            count(&ground.turn(), &mut found, &mut ended);
        }
        for pod in (0..500).filter(|pod| pod / 50 + 1 == wave) {
            ground.remove(&format!("pods/ns_pod-{pod}_uid"));
            ground.remove(&format!("docker/{pod}"));
            count(&ground.turn(), &mut found, &mut ended);
        }
    }
    count(&ground.later(10_000), &mut found, &mut ended);
    assert!(found >= 10_000, "{found}");
    assert!(ended >= 500, "{ended}");
    let after = (
        descriptors(&ground.dir),
        watches(&ground.files),
        ground.tree.counts(),
        ground.registry.render().lines().count(),
    );
    assert_eq!(after, before);
    assert_eq!(ground.value("tailwake_containers_missed_total"), 0);
    assert_eq!(ground.value("tailwake_watch_overflows_total"), 0);
}

fn count(said: &[String], found: &mut usize, ended: &mut usize) {
    *found += said.iter().filter(|text| text.starts_with("found")).count();
    *ended += said.iter().filter(|text| text.starts_with("ended")).count();
}

#[test]
fn pods_that_come_and_go_leave_no_descriptor_watch_or_entry() {
    churn(
        "churn-pods",
        "pods: {root: DIR/pods, link_roots: [DIR/docker]}",
    );
}

#[test]
fn globbed_files_that_come_and_go_leave_no_descriptor_watch_or_entry() {
    let inputs = "files: {paths: ['DIR/pods/**/*.log'], link_roots: [DIR/docker]}";
    churn("churn-globs", inputs);
}
