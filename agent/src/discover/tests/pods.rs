//! Kubelet's tree.

use super::*;

const PODS: &str = "pods: {root: DIR/pods, link_roots: [DIR/docker]}";

/// A container's directory.
const C: &str = "pods/ns_pod.a_uid/app";

fn ground(name: &str) -> Ground {
    let ground = Ground::new(name, PODS);
    std::fs::create_dir_all(ground.at("pods")).unwrap();
    ground
}

#[test]
fn a_containers_life_is_told_in_order_and_what_is_no_log_is_counted_once() {
    let mut ground = ground("life");
    std::fs::create_dir_all(ground.at(C).join("7.log")).unwrap();
    ground.write(&format!("{C}/0.log.20261124-030301.tmp"));
    ground.write(&format!("{C}/0.log"));
    let before = ground.tree.counts();
    assert_eq!(ground.start(), [format!("there {C}/0.log")]);
    assert_eq!(ground.value("tailwake_names_skipped_total"), 2);

    let rotated = format!("{C}/0.log.20261124-030301");
    ground.rename(&format!("{C}/0.log"), &rotated);
    ground.write(&format!("{C}/0.log"));
    let want = [format!("found {rotated}"), format!("found {C}/0.log")];
    assert_eq!(ground.turn(), want);

    ground.remove("pods");
    let want = [
        format!("gone {C}/0.log"),
        format!("gone {rotated}"),
        "ended ns_pod.a_uid/app".to_owned(),
    ];
    assert_eq!(ground.turn(), want);
    assert_eq!(ground.value("tailwake_names_skipped_total"), 2);
    assert_eq!(ground.value("tailwake_containers_missed_total"), 0);
    assert_eq!(ground.tree.counts().3, before.3);
}

#[test]
fn a_file_made_anew_under_its_name_is_told_though_the_names_are_the_same() {
    let mut ground = ground("anew");
    ground.write(&format!("{C}/0.log"));
    ground.start();
    ground.remove(&format!("{C}/0.log"));
    ground.write(&format!("{C}/0.log"));
    let want = [format!("found {C}/0.log")];
    assert_eq!(ground.turn(), want);
    // The whole directory, too.
    ground.remove(C);
    ground.write(&format!("{C}/0.log"));
    let want = [
        format!("gone {C}/0.log"),
        "ended ns_pod.a_uid/app".to_owned(),
        format!("found {C}/0.log"),
    ];
    assert_eq!(ground.turn(), want);
    assert_eq!(ground.turn(), [""; 0]);
}

#[test]
fn a_root_that_comes_later_is_awaited() {
    let mut ground = Ground::new("later", "pods: {root: DIR/a/b/pods}");
    assert_eq!(ground.start(), [""; 0]);
    assert_eq!(ground.tree.counts().0, 1);
    std::fs::create_dir(ground.at("a")).unwrap();
    assert_eq!(ground.turn(), [""; 0]);
    ground.write("a/b/pods/ns_pod_uid/app/0.log");
    let found = ["found a/b/pods/ns_pod_uid/app/0.log"];
    assert_eq!(ground.turn(), found);
    // Root, pod, container; what was held while waiting is let go.
    assert_eq!(ground.tree.counts().0, 3);
    ground.remove("a");
    assert_eq!(ground.turn().len(), 2);
    assert_eq!(ground.tree.counts().0, 1);
    ground.write("a/b/pods/ns_pod_uid/app/0.log");
    assert_eq!(ground.turn(), found);
}

#[test]
fn dockers_link_is_told_again_when_its_target_is_rotated() {
    let mut ground = ground("docker");
    ground.write("docker/id/id.log");
    ground.link("docker/id/id.log", &format!("{C}/0.log"));
    assert_eq!(ground.start(), [format!("there {C}/0.log")]);
    let (held, ..) = ground.tree.counts();
    assert_eq!(held, 4);
    ground.rename("docker/id/id.log", "docker/id/id.log.1");
    ground.write("docker/id/id.log");
    let again = [format!("gone {C}/0.log"), format!("found {C}/0.log")];
    assert_eq!(ground.turn(), again);
    // Other names there are none of ours.
    ground.write("docker/id/config.json");
    assert_eq!(ground.turn(), [""; 0]);
    ground.remove("pods/ns_pod.a_uid");
    let want = [
        format!("gone {C}/0.log"),
        "ended ns_pod.a_uid/app".to_owned(),
    ];
    assert_eq!(ground.turn(), want);
    assert_eq!(ground.tree.counts().0, 1);
}

#[test]
fn containers_that_came_and_went_unseen_are_counted() {
    let mut ground = ground("missed");
    ground.start();
    // The pod with all in it, before its directory could be listed.
    ground.write(&format!("{C}/0.log"));
    ground.remove("pods/ns_pod.a_uid");
    assert_eq!(ground.turn(), [""; 0]);
    assert_eq!(ground.value("tailwake_containers_missed_total"), 1);
    // A container in a pod that is known.
    std::fs::create_dir(ground.at("pods/ns_pod.a_uid")).unwrap();
    ground.turn();
    ground.write(&format!("{C}/0.log"));
    ground.remove(C);
    ground.turn();
    assert_eq!(ground.value("tailwake_containers_missed_total"), 2);
    // A file in a container's directory that is known.
    std::fs::create_dir(ground.at(C)).unwrap();
    ground.turn();
    ground.write(&format!("{C}/0.log"));
    ground.remove(C);
    assert_eq!(ground.turn(), ["ended ns_pod.a_uid/app"]);
    assert_eq!(ground.value("tailwake_containers_missed_total"), 3);
    // A container in a pod that goes with it.
    ground.write(&format!("{C}/0.log"));
    ground.remove("pods/ns_pod.a_uid");
    ground.turn();
    assert_eq!(ground.value("tailwake_containers_missed_total"), 4);
    std::fs::create_dir(ground.at("pods/ns_pod.a_uid")).unwrap();
    ground.turn();
    // One that never had a file was not missed, and names that are no pod's neither.
    std::fs::create_dir(ground.at(C)).unwrap();
    ground.turn();
    ground.later(1_000);
    ground.remove(C);
    ground.write("pods/lost+found/x");
    ground.remove("pods/lost+found");
    ground.turn();
    assert_eq!(ground.value("tailwake_containers_missed_total"), 4);
    // One that was empty when it was looked into, and goes at once: it may have had one before.
    std::fs::create_dir(ground.at(C)).unwrap();
    ground.turn();
    ground.remove(C);
    ground.turn();
    assert_eq!(ground.value("tailwake_containers_missed_total"), 5);
}
