//! Held, released, changed and shut: what discovery tells as the Kubernetes API does.

use serde_json::json;

use super::*;
use crate::roster::Update;

const WAIT: &str = "pods: {root: DIR, kubernetes: {on_missing_metadata: wait, metadata_wait: 1s, \
                    opt_out_annotation: x.io/out}}";
const SEND: &str = "pods: {root: DIR, kubernetes: {metadata_wait: 1s}}";

const LOG: &str = "ns_pod_u-1/app/0.log";

fn pod(app: &str, out: bool) -> Update {
    let pod = json!({
        "uid": "u-1", "labels": {"app": app}, "annotations": {"x.io/out": out.to_string()},
    });
    Update::Pod(serde_json::from_value(pod).unwrap())
}

impl<F: Files> Ground<F> {
    fn api(&mut self, updates: impl IntoIterator<Item = Update>) -> Vec<String> {
        for update in updates {
            self.tree.hear_api(update, self.now);
        }
        self.turn()
    }

    fn deadline(&mut self) -> Option<Mono> {
        let turn = self.tree.turn(&self.files, self.now, &mut Vec::new());
        turn.deadline.filter(|at| at.ms_since(self.now) < 10_000)
    }
}

#[test]
fn a_pod_that_is_known_is_read_at_once_and_told_again_when_its_labels_change() {
    let mut ground = Ground::new("known", WAIT);
    ground.start();
    ground.api([pod("web", false)]);
    ground.write(LOG);
    assert_eq!(ground.turn(), ["found ns_pod_u-1/app/0.log"]);
    assert_eq!(
        ground.api([pod("api", false)]),
        ["changed ns_pod_u-1/app Read api"]
    );
    assert!(ground.api([pod("api", false)]).is_empty());
}

#[test]
fn an_unknown_pod_is_held_until_the_api_names_it_however_long_that_is_silent() {
    let mut ground = Ground::new("held", WAIT);
    ground.write(LOG);
    assert_eq!(ground.start(), ["there ns_pod_u-1/app/0.log Held"]);
    assert_eq!(ground.value("tailwake_pods_held"), 1);
    assert!(ground.deadline().is_some(), "to say that it is held");
    assert!(ground.later(2_000).is_empty());
    assert_eq!(ground.deadline(), None, "nothing but the API ends it");
    assert!(ground.later(100_000).is_empty());
    assert_eq!(
        ground.api([pod("web", false)]),
        ["changed ns_pod_u-1/app Read web"]
    );
    assert_eq!(ground.value("tailwake_pods_held"), 0);
    assert_eq!(ground.value("tailwake_pods_without_metadata_total"), 0);
}

#[test]
fn a_pod_that_the_api_does_not_name_for_the_time_of_the_bound_is_sent_as_it_is() {
    let mut ground = Ground::new("unnamed", WAIT);
    ground.write(LOG);
    ground.start();
    ground.later(50_000);
    assert!(ground.api([Update::Began, Update::Whole]).is_empty());
    assert!(ground.later(500).is_empty());
    // A gap in the watch begins the bound anew.
    assert!(ground.api([Update::Silent]).is_empty());
    assert!(ground.later(5_000).is_empty());
    assert!(ground.api([Update::Heard]).is_empty());
    assert_eq!(ground.later(1_000), ["changed ns_pod_u-1/app Bare -"]);
    let name = "tailwake_pods_without_metadata_total";
    assert_eq!(ground.registry.value_of(name, &[("reason", "unnamed")]), 1);
    ground.write("ns_pod_u-1/other/0.log");
    assert_eq!(ground.turn(), ["found ns_pod_u-1/other/0.log Bare"]);
    let said = ground.api([pod("web", false)]);
    assert_eq!(
        said,
        [
            "changed ns_pod_u-1/app Read web",
            "changed ns_pod_u-1/other Read web"
        ]
    );
}

#[test]
fn with_send_the_bound_ends_it_while_the_api_is_silent() {
    let mut ground = Ground::new("send", SEND);
    ground.write(LOG);
    assert_eq!(ground.start(), ["there ns_pod_u-1/app/0.log Held"]);
    assert!(ground.later(900).is_empty());
    assert_eq!(ground.later(200), ["changed ns_pod_u-1/app Bare -"]);
    let name = "tailwake_pods_without_metadata_total";
    assert_eq!(ground.registry.value_of(name, &[("reason", "silent")]), 1);
    assert_eq!(ground.deadline(), None);
}

#[test]
fn a_held_pod_whose_directory_is_gone_is_still_released() {
    let mut ground = Ground::new("orphan", WAIT);
    ground.write(LOG);
    ground.start();
    ground.remove("ns_pod_u-1");
    let said = ground.later(5_000);
    assert_eq!(said, ["gone ns_pod_u-1/app/0.log", "ended ns_pod_u-1/app"]);
    assert_eq!(ground.value("tailwake_pods_held"), 1);
    let gone = Update::Gone(serde_json::from_value(json!({"uid": "u-1"})).unwrap());
    let said = ground.api([pod("web", false), gone]);
    assert_eq!(said, ["changed ns_pod_u-1/app Read web"]);
    assert_eq!(ground.value("tailwake_pods_held"), 0);
    let roster = ground.tree.roster().unwrap();
    assert!(roster.is_empty(), "nothing is left of it");
}

#[test]
fn a_pod_opts_out_and_in_again_and_is_then_read_from_its_present_end() {
    let mut ground = Ground::new("out", WAIT);
    ground.start();
    ground.api([pod("web", true)]);
    ground.write(LOG);
    assert!(ground.turn().is_empty(), "its files are not opened");
    assert_eq!(ground.value("tailwake_pods_opted_out"), 1);
    assert_eq!(
        ground.api([pod("web", false)]),
        ["again ns_pod_u-1/app/0.log"]
    );
    assert_eq!(ground.value("tailwake_pods_opted_out"), 0);
    assert_eq!(
        ground.api([pod("web", true)]),
        ["changed ns_pod_u-1/app Shut -"]
    );
    ground.write("ns_pod_u-1/app/1.log");
    assert!(ground.turn().is_empty());
    ground.remove("ns_pod_u-1");
    ground.turn();
    assert_eq!(ground.value("tailwake_pods_opted_out"), 0);
    assert_eq!(ground.value("tailwake_containers_missed_total"), 0);
}

#[test]
fn without_the_option_nothing_is_held() {
    let mut ground = Ground::new("plain", "pods: {root: DIR}");
    ground.write(LOG);
    assert_eq!(ground.start(), ["there ns_pod_u-1/app/0.log"]);
    assert!(ground.tree.roster().is_none());
}
