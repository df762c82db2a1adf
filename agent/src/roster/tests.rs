#![expect(clippy::unwrap_used, reason = "tests")]

use serde_json::json;

use super::snapshot::Error;
use super::*;

fn taken() -> Kubernetes {
    Kubernetes {
        labels: vec![NameGlob::new("app*")],
        annotations: vec![NameGlob::new("team")],
        opt_out: Some("tailwake.io/exclude".to_owned()),
        ..Kubernetes::default()
    }
}

fn pod(uid: &str, labels: serde_json::Value, annotations: serde_json::Value) -> Box<Metadata> {
    let pod = json!({
        "uid": uid, "resourceVersion": "7", "labels": labels, "annotations": annotations,
        "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:status": {}}}],
    });
    Box::new(serde_json::from_value(pod).unwrap())
}

fn named(uid: &str, app: &str) -> Update {
    Update::Pod(pod(uid, json!({"app": app, "other": "x"}), json!({})))
}

fn hear(roster: &mut Roster, updates: impl IntoIterator<Item = Update>) {
    let updates = updates.into_iter();
    updates.for_each(|update| roster.hear(update, Mono(1)));
}

fn label(roster: &Roster, uid: &str) -> Option<String> {
    match roster.word(uid) {
        Word::Known(facts) => Some(facts.labels.first()?.1.to_string()),
        Word::Shut | Word::Unknown => None,
    }
}

#[test]
fn a_pod_has_the_labels_that_are_taken_and_a_version_that_stays_while_they_do() {
    let mut roster = Roster::new(taken());
    hear(&mut roster, [named("a", "web")]);
    let Word::Known(first) = roster.word("a") else {
        unreachable!()
    };
    assert_eq!(first.labels.len(), 1);
    assert_eq!(roster.take_changed().len(), 1);
    hear(&mut roster, [named("a", "web")]);
    assert!(roster.take_changed().is_empty());
    assert_eq!(roster.word("a"), Word::Known(Arc::clone(&first)));
    hear(&mut roster, [named("a", "api")]);
    assert_eq!(label(&roster, "a").as_deref(), Some("api"));
    assert_eq!(
        &*first.labels[0].1, "web",
        "who has the old version keeps it"
    );
}

#[test]
fn equal_texts_are_there_once() {
    let mut roster = Roster::new(taken());
    hear(&mut roster, [named("a", "web"), named("b", "web")]);
    let (Word::Known(a), Word::Known(b)) = (roster.word("a"), roster.word("b")) else {
        unreachable!()
    };
    assert!(Arc::ptr_eq(&a.labels[0].0, &b.labels[0].0));
    assert!(Arc::ptr_eq(&a.labels[0].1, &b.labels[0].1));
}

#[test]
fn texts_of_pods_that_are_gone_go() {
    let mut roster = Roster::new(taken());
    for turn in 0..1_000 {
        let uid = format!("uid-{turn}");
        hear(&mut roster, [named(&uid, &format!("app-{turn}"))]);
        let gone = pod(&uid, json!({}), json!({}));
        hear(&mut roster, [Update::Gone(gone)]);
        assert_eq!(roster.take_changed().len(), 1);
    }
    assert!(roster.is_empty());
    assert!(roster.words.len() < 200, "{}", roster.words.len());
}

#[test]
fn a_pod_that_is_gone_is_known_while_its_directory_is_there() {
    let mut roster = Roster::new(taken());
    let uid: Arc<str> = "a".into();
    roster.came(&uid);
    hear(&mut roster, [named("a", "web")]);
    hear(&mut roster, [Update::Gone(pod("a", json!({}), json!({})))]);
    assert_eq!(label(&roster, "a").as_deref(), Some("web"));
    roster.left(&uid);
    assert_eq!(roster.word("a"), Word::Unknown);
}

#[test]
fn only_a_whole_list_says_who_is_gone() {
    let mut roster = Roster::new(taken());
    hear(
        &mut roster,
        [
            Update::Began,
            named("a", "web"),
            named("b", "web"),
            Update::Whole,
        ],
    );
    assert_eq!(roster.heard(), Some(Mono(1)));
    hear(
        &mut roster,
        [
            Update::Silent,
            Update::Began,
            named("b", "web"),
            Update::Silent,
        ],
    );
    assert_eq!(roster.len(), 2);
    assert_eq!(roster.heard(), None);
    hear(
        &mut roster,
        [Update::Began, named("b", "web"), Update::Whole],
    );
    assert_eq!((roster.len(), roster.word("a")), (1, Word::Unknown));
}

#[test]
fn a_watch_that_goes_on_is_heard_only_after_a_whole_list() {
    let mut roster = Roster::new(taken());
    hear(&mut roster, [Update::Heard]);
    assert_eq!(roster.heard(), None);
    hear(
        &mut roster,
        [Update::Began, Update::Whole, Update::Silent, Update::Heard],
    );
    assert_eq!(roster.heard(), Some(Mono(1)));
}

#[test]
fn a_static_pod_goes_by_its_config_hash_and_outlives_its_first_mirror() {
    let mut roster = Roster::new(taken());
    let mirror = |uid: &str| pod(uid, json!({"app": "static"}), json!({CONFIG_HASH: "hash"}));
    hear(
        &mut roster,
        [Update::Pod(mirror("one")), Update::Pod(mirror("two"))],
    );
    hear(&mut roster, [Update::Gone(mirror("one"))]);
    assert_eq!(label(&roster, "hash").as_deref(), Some("static"));
    assert_eq!(roster.word("one"), Word::Unknown);
    hear(&mut roster, [Update::Gone(mirror("two"))]);
    assert_eq!(roster.word("hash"), Word::Unknown);
}

#[test]
fn a_pod_opts_out_by_the_annotation_alone_and_comes_back() {
    let mut roster = Roster::new(taken());
    let with =
        |value: &str| Update::Pod(pod("a", json!({}), json!({"tailwake.io/exclude": value})));
    hear(&mut roster, [with("false")]);
    assert!(matches!(roster.word("a"), Word::Known(_)));
    hear(&mut roster, [with("true")]);
    assert_eq!((roster.word("a"), roster.len()), (Word::Shut, 1));
    hear(&mut roster, [with("false")]);
    assert!(matches!(roster.word("a"), Word::Known(_)));
    let mut plain = Roster::new(Kubernetes::default());
    hear(&mut plain, [with("true")]);
    assert!(
        matches!(plain.word("a"), Word::Known(_)),
        "off unless configured"
    );
}

#[test]
fn the_owner_of_a_replica_set_is_its_deployment_by_the_template_hash() {
    let of = |kind: &str, name: &str, hash: &str, controller: bool| {
        let pod: Metadata = serde_json::from_value(json!({
            "uid": "a", "labels": {"pod-template-hash": hash},
            "ownerReferences": [
                {"kind": "Node", "name": "n"},
                {"kind": kind, "name": name, "controller": controller},
            ],
        }))
        .unwrap();
        let (kind, name) = owner(&pod);
        format!("{kind}/{name}")
    };
    assert_eq!(of("ReplicaSet", "web-5d8f", "5d8f", true), "Deployment/web");
    assert_eq!(
        of("ReplicaSet", "web-5d8f", "77aa", true),
        "ReplicaSet/web-5d8f"
    );
    assert_eq!(of("ReplicaSet", "5d8f", "5d8f", true), "ReplicaSet/5d8f");
    assert_eq!(of("Job", "once-5d8f", "5d8f", true), "Job/once-5d8f");
    assert_eq!(of("Job", "once", "", false), "/");
}

#[test]
fn a_snapshot_is_read_back_and_the_api_then_says_who_is_still_there() {
    let mut roster = Roster::new(taken());
    let excluded = pod(
        "b",
        json!({"app": "b\"\n\u{e9}"}),
        json!({"tailwake.io/exclude": "true"}),
    );
    hear(&mut roster, [named("a", "web"), Update::Pod(excluded)]);
    assert!(roster.is_unwritten());
    let file = roster.snapshot();
    assert!(!roster.is_unwritten());
    let mut next = Roster::new(taken());
    next.recall(&file).unwrap();
    assert_eq!(label(&next, "a").as_deref(), Some("web"));
    assert_eq!(next.word("b"), Word::Shut);
    let uid: Arc<str> = "a".into();
    next.came(&uid);
    hear(&mut next, [Update::Began, Update::Whole]);
    assert_eq!(
        label(&next, "a").as_deref(),
        Some("web"),
        "its files are there"
    );
    assert_eq!(next.word("b"), Word::Unknown, "entries go with their files");
}

#[test]
fn a_snapshot_that_does_not_hold_says_nothing() {
    let mut roster = Roster::new(taken());
    hear(&mut roster, [named("a", "web")]);
    let file = roster.snapshot();
    let refused = |file: &[u8], taken: Kubernetes| Roster::new(taken).recall(file).unwrap_err();
    let mut flipped = file.clone();
    let last = flipped.len() - 4;
    flipped[last] ^= 1;
    assert_eq!(refused(&flipped, taken()), Error::Checksum);
    assert_eq!(refused(&file[..file.len() - 1], taken()), Error::Checksum);
    assert_eq!(
        refused(b"tailwake pods 2 crc32=0\n", taken()),
        Error::Header
    );
    assert_eq!(refused(&file, Kubernetes::default()), Error::Taken);
    for end in 0..file.len() {
        let _ = Roster::new(taken()).recall(&file[..end]).unwrap_err();
    }
}

#[test]
fn an_api_that_names_none_of_our_pods_was_asked_for_another_node() {
    let mut roster = Roster::new(taken());
    roster.came(&"a".into());
    hear(
        &mut roster,
        [Update::Began, named("x", "web"), Update::Whole],
    );
    assert!(roster.is_elsewhere());
    hear(&mut roster, [named("a", "web")]);
    assert!(!roster.is_elsewhere());
}
