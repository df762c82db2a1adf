//! The watch of pods against a real kube-apiserver: what it asks, what it makes of each way in which
//! that fails, and that no line goes without its labels.
//!
//! `cargo xtask test` names the programs' folder in TAILWAKE_KUBE_PROGRAMS; without it this is skipped.
#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "shared with the tests of bad input")]
#[path = "../bad/agent.rs"]
mod agent;
mod api;
#[path = "../bad/bed.rs"]
#[expect(dead_code, reason = "shared with the tests of bad input")]
mod bed;
#[expect(dead_code, reason = "shared with the tests of bad input")]
#[path = "../bad/sink.rs"]
mod sink;

use std::path::{Path, PathBuf};
use std::time::Instant;

use agent::{Agent, Setup};
use api::Api;
use bed::{Bed, Log};
use serde_json::json;
use sink::{Manner, Sink};

const NODE: &str = "node-1";

/// One part's node: a bed, a sink whose texts stand by `pod/app`, and how the agent is set up.
struct Ground {
    bed: Bed,
    sink: Sink,
    kubeconfig: PathBuf,
    setup: Setup,
}

impl Ground {
    fn new(name: &str, api: &Api, more: &str) -> Self {
        let (bed, sink) = (Bed::new(&format!("kube-{name}")), Sink::start(Manner::Good));
        let kubeconfig = api.kubeconfig(&bed.path("access"));
        let mut setup = Setup::to(&sink);
        let url = sink.loki().replace('}', "");
        let output = format!("{url}, labels: {{pod: '{{pod}}/{{labels.app}}'}}}}");
        setup.outputs = vec![("good", output)];
        setup.kind = Some(format!(
            "pods: {{root: {}, kubernetes: {{node: {NODE}, kubeconfig: {}, {more}}}}}",
            bed.path("pods").display(),
            kubeconfig.display()
        ));
        Self {
            bed,
            sink,
            kubeconfig,
            setup,
        }
    }

    fn agent(&self) -> Agent {
        Agent::start(&self.bed, &self.setup)
    }

    /// The directory of the one container of an API's pod.
    fn container(&self, name: &str, uid: &str) -> PathBuf {
        let dir = self.bed.path("pods").join(format!("ns_{name}_{uid}/app"));
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    fn write(&self, name: &str, uid: &str, text: &str, count: usize) -> Vec<String> {
        let mut log = Log::open(&self.container(name, uid).join("0.log"));
        let texts: Vec<String> = (0..count)
            .map(|number| format!("{text} {number}"))
            .collect();
        texts.iter().for_each(|text| log.line(text));
        texts
    }

    /// The directory that the token is in.
    fn access(&self) -> &Path {
        self.kubeconfig.parent().unwrap()
    }
}

fn heard(agent: &Agent) -> bool {
    agent.status()["kubernetes"]["heard"] == json!(true)
}

fn trouble(agent: &Agent) -> String {
    let status = agent.status();
    status["kubernetes"]["trouble"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

const WAIT: &str = "on_missing_metadata: wait, metadata_wait: 1s, opt_out_annotation: x.io/out";

type Part = fn(&mut Api);

#[test]
fn the_watch_of_pods_against_a_real_api_server() {
    let Some(programs) = std::env::var_os("TAILWAKE_KUBE_PROGRAMS") else {
        eprintln!("skipped: TAILWAKE_KUBE_PROGRAMS names no folder with etcd and kube-apiserver");
        return;
    };
    let home = Bed::new("kube-api");
    let mut api = Api::start(&home.path("api"), Path::new(&programs));
    let parts: [(&str, Part); 8] = [
        ("changes and opting out", labels_change_and_pods_opt_out),
        ("silent at the start", files_wait_for_a_silent_api),
        ("restarts and 410", a_restarted_server_is_watched_on),
        ("no streamed lists", a_server_without_streamed_lists),
        ("an expired token", an_expired_token_is_read_again),
        ("403", a_missing_right_is_named),
        ("429", a_busy_server_is_left_alone),
        ("the snapshot", a_snapshot_serves_a_restart),
    ];
    for (name, part) in parts {
        let begun = Instant::now();
        api.begin();
        part(&mut api);
        eprintln!("{name}: {:.1} s", begun.elapsed().as_secs_f64());
    }
}

fn labels_change_and_pods_opt_out(api: &mut Api) {
    let ground = Ground::new("labels", api, WAIT);
    let uid = api.make_pod(NODE, "web", "one");
    api.make_pod("node-2", "other", "two");
    let mut agent = ground.agent();
    agent.awaits("the API is heard", heard);
    let mut want = ground.write("web", &uid, "first", 100);
    agent.awaits_texts(&ground.sink, "web/one", &want);
    assert_eq!(
        agent.status()["kubernetes"]["pods"],
        json!(1),
        "this node's alone"
    );
    // While lines come the label changes: each comes once, under the one or the other.
    let mut log = Log::open(&ground.container("web", &uid).join("0.log"));
    for number in 0..400 {
        if number == 200 {
            api.change_pod("web", &json!({"labels": {"app": "three"}}));
        }
        let text = format!("under way {number}");
        log.line(&text);
        want.push(text);
    }
    agent.awaits("the new label", |_| {
        let texts = ["web/one", "web/three"].map(|pod| ground.sink.texts(pod).len());
        texts.iter().sum::<usize>() >= want.len()
    });
    let last = ground.write("web", &uid, "last", 10);
    agent.awaits("lines under it", |_| {
        last.iter()
            .all(|text| ground.sink.texts("web/three").contains(text))
    });
    want.extend(last);
    let got = [ground.sink.texts("web/one"), ground.sink.texts("web/three")].concat();
    assert_eq!(got, want);
    let asked = api.asked();
    let lists = asked
        .iter()
        .filter(|line| line.contains("sendInitialEvents"))
        .count();
    assert_eq!((lists, asked.len()), (1, 1), "one request: {asked:?}");
    // Opting out closes the file; in again, what was written meanwhile stays unsent.
    api.change_pod("web", &json!({"annotations": {"x.io/out": "true"}}));
    agent.awaits("its file is closed", |agent| {
        agent.metric("tailwake_files_open", &[]) == 0
    });
    assert_eq!(agent.metric("tailwake_pods_opted_out", &[]), 1);
    assert_eq!(
        agent.status()["containers"],
        json!([]),
        "its series are gone"
    );
    ground.write("web", &uid, "secret", 10);
    api.change_pod("web", &json!({"annotations": {"x.io/out": null}}));
    agent.awaits("it is open again", |agent| {
        agent.metric("tailwake_files_open", &[]) == 1
    });
    want.extend(ground.write("web", &uid, "public", 10));
    agent.awaits("what came since", |_| {
        ground.sink.texts("web/three").last() == want.last()
    });
    let got = [ground.sink.texts("web/one"), ground.sink.texts("web/three")].concat();
    assert_eq!(got, want);
    agent.end();
    api.delete_pod("web");
    api.delete_pod("other");
}

fn files_wait_for_a_silent_api(api: &mut Api) {
    let ground = Ground::new("silent", api, WAIT);
    let uid = api.make_pod(NODE, "held", "late");
    api.down();
    let mut want = ground.write("held", &uid, "first", 100);
    let mut agent = ground.agent();
    agent.awaits("the pod is held", |agent| {
        agent.metric("tailwake_pods_held", &[]) == 1
    });
    // Rotated and deleted meanwhile, and the directory too.
    let dir = ground.container("held", &uid);
    std::fs::rename(dir.join("0.log"), dir.join("0.log.20261124-030001")).unwrap();
    want.extend(ground.write("held", &uid, "second", 100));
    agent.awaits("both are open", |agent| {
        agent.metric("tailwake_files_open", &[]) == 2
    });
    std::fs::remove_dir_all(ground.bed.path("pods").join(format!("ns_held_{uid}"))).unwrap();
    agent.assert_said_once("has not named these pods within `metadata_wait`");
    assert!(
        trouble(&agent).contains("cannot be asked"),
        "{}",
        trouble(&agent)
    );
    assert!(ground.sink.texts("held/").is_empty() && ground.sink.texts("held/late").is_empty());
    api.up(&[]);
    agent.awaits_texts(&ground.sink, "held/late", &want);
    agent.awaits("all is closed", |agent| {
        agent.metric("tailwake_files_open", &[]) == 0
    });
    assert_eq!(agent.metric("tailwake_pods_held", &[]), 0);
    assert_eq!(
        agent.metric("tailwake_lines_without_metadata_total", &[]),
        0
    );
    // With `send` the bound ends it; what went without labels is counted.
    api.down();
    let hasty = Ground::new("hasty", api, "metadata_wait: 300ms");
    let bare = hasty.write("held", &uid, "bare", 10);
    let mut other = hasty.agent();
    other.awaits_texts(&hasty.sink, "held/", &bare);
    other.awaits_metric("tailwake_lines_without_metadata_total", &[], 10);
    api.up(&[]);
    other.awaits("the API is heard", heard);
    let labelled = hasty.write("held", &uid, "labelled", 10);
    other.awaits_texts(&hasty.sink, "held/late", &labelled);
    other.end();
    agent.end();
    api.delete_pod("held");
}

/// The watch goes on where it was after a restart; where the server has forgotten that, all is asked
/// for again, and no pod is forgotten on the way.
fn a_restarted_server_is_watched_on(api: &mut Api) {
    let ground = Ground::new("restart", api, WAIT);
    let uid = api.make_pod(NODE, "web", "one");
    let mut agent = ground.agent();
    agent.awaits("the API is heard", heard);
    // Pods of other nodes go on meanwhile: our place is behind.
    api.make_pod("node-2", "other", "other");
    api.delete_pod("other");
    api.down();
    agent.awaits("that is noticed", |agent| !heard(agent));
    // What is known stays known.
    let first = ground.write("web", &uid, "first", 10);
    agent.awaits_texts(&ground.sink, "web/one", &first);
    api.up(&["--min-request-timeout=2"]);
    api.compact();
    agent.awaits("the API is heard again", heard);
    let gone = api.make_pod(NODE, "brief", "brief");
    let texts = ground.write("brief", &gone, "brief", 10);
    agent.awaits_texts(&ground.sink, "brief/brief", &texts);
    api.change_pod("web", &json!({"labels": {"app": "two"}}));
    agent.awaits("lines under the new label", |_| {
        ground.sink.texts("web/two").len() > 5 || {
            let _ = ground.write("web", &uid, "more", 1);
            false
        }
    });
    // The first list, a watch from the old place, which the restarted server has forgotten (HTTP 200,
    // then an ERROR 410), and a list again.
    let asked = api.asked();
    let of = |words: &str| asked.iter().filter(|line| line.contains(words)).count();
    assert_eq!(
        of("200 /api/v1/pods") - of("sendInitialEvents"),
        1,
        "{asked:?}"
    );
    assert_eq!(
        agent.metric("tailwake_kubernetes_lists_total", &[]),
        2,
        "{asked:?}"
    );
    agent.end();
    api.delete_pod("brief");
    api.delete_pod("web");
}

fn a_server_without_streamed_lists(api: &mut Api) {
    api.down();
    api.up(&["--feature-gates=WatchList=false"]);
    let ground = Ground::new("lists", api, WAIT);
    let uid = api.make_pod(NODE, "web", "one");
    let mut agent = ground.agent();
    let want = ground.write("web", &uid, "first", 10);
    agent.awaits_texts(&ground.sink, "web/one", &want);
    agent.awaits("the API is heard", heard);
    assert_eq!(
        agent.metric("tailwake_kubernetes_errors_total", &[]),
        0,
        "{}",
        agent.said()
    );
    let asked = api.asked();
    assert!(
        asked.iter().any(|line| line.starts_with("list 200")),
        "{asked:?}"
    );
    api.change_pod("web", &json!({"labels": {"app": "two"}}));
    agent.awaits("lines under the new label", |_| {
        !ground.sink.texts("web/two").is_empty() || {
            let _ = ground.write("web", &uid, "more", 1);
            false
        }
    });
    agent.end();
    api.delete_pod("web");
    api.down();
    api.up(&[]);
}

fn an_expired_token_is_read_again(api: &mut Api) {
    let ground = Ground::new("token", api, WAIT);
    // The server takes a token for 10 s beyond its end, so that clocks may differ.
    api.write_token(ground.access(), -60);
    let uid = api.make_pod(NODE, "web", "one");
    let want = ground.write("web", &uid, "first", 10);
    let mut agent = ground.agent();
    agent.awaits("it is refused", |agent| trouble(agent).contains("(401"));
    assert!(ground.sink.texts("web/one").is_empty());
    api.write_token(ground.access(), 3_600);
    agent.awaits_texts(&ground.sink, "web/one", &want);
    agent.awaits("the API is heard", heard);
    agent.assert_said_once("does not accept the agent's token");
    agent.end();
    api.delete_pod("web");
}

fn a_missing_right_is_named(api: &mut Api) {
    let ground = Ground::new("right", api, WAIT);
    api.allow(false);
    let uid = api.make_pod(NODE, "web", "one");
    let want = ground.write("web", &uid, "first", 10);
    let mut agent = ground.agent();
    agent.awaits("it is refused", |agent| trouble(agent).contains("(403"));
    for part in [
        "system:serviceaccount:default:tailwake",
        "cannot watch resource",
        "kind: ClusterRole",
        "resources: [pods], verbs: [list, watch]",
    ] {
        assert!(
            trouble(&agent).contains(part),
            "{part}: {}",
            trouble(&agent)
        );
    }
    api.allow(true);
    agent.awaits_texts(&ground.sink, "web/one", &want);
    agent.end();
    api.delete_pod("web");
}

fn a_busy_server_is_left_alone(api: &mut Api) {
    let begun = Instant::now();
    let ground = Ground::new("busy", api, WAIT);
    let flow = "/apis/flowcontrol.apiserver.k8s.io/v1";
    let level = json!({
        "metadata": {"name": "none"},
        "spec": {"type": "Limited", "limited": {
            "nominalConcurrencyShares": 0, "lendablePercent": 0, "borrowingLimitPercent": 0,
            "limitResponse": {"type": "Reject"},
        }},
    });
    api.must(
        "POST",
        &format!("{flow}/prioritylevelconfigurations"),
        &level,
    );
    let subject =
        json!({"kind": "User", "user": {"name": "system:serviceaccount:default:tailwake"}});
    let resources = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"],
        "clusterScope": true, "namespaces": ["*"]}]);
    let schema = json!({
        "metadata": {"name": "none"},
        "spec": {
            "priorityLevelConfiguration": {"name": "none"}, "matchingPrecedence": 2,
            "rules": [{"subjects": [subject], "resourceRules": resources}],
        },
    });
    api.must("POST", &format!("{flow}/flowschemas"), &schema);
    let uid = api.make_pod(NODE, "web", "one");
    let want = ground.write("web", &uid, "first", 10);
    // The level takes one request at a time: others of our account keep it.
    let mut crowd = api.crowd();
    let mut times = 0;
    while times < 3 {
        // The server takes up the level within 2 s.
        times = if api.is_busy() { times + 1 } else { 0 };
        assert!(begun.elapsed().as_secs() < 60, "the level is not taken up");
    }
    let mut agent = ground.agent();
    let told = |agent: &Agent| trouble(agent).contains("(429") || heard(agent);
    agent.awaits("it is told to wait", told);
    while !trouble(&agent).contains("(429") {
        // It came between two others.
        agent.end();
        agent = ground.agent();
        agent.awaits("it is told to wait", told);
    }
    crowd.kill().unwrap();
    crowd.wait().unwrap();
    agent.awaits_texts(&ground.sink, "web/one", &want);
    agent.awaits("the API is heard", heard);
    // It asked no more often than it was told to: a second or two apart.
    let (tries, begun) = (
        agent.metric("tailwake_kubernetes_errors_total", &[]),
        begun.elapsed(),
    );
    assert!(tries <= 1 + begun.as_secs(), "{tries} tries in {begun:?}");
    for of in ["flowschemas", "prioritylevelconfigurations"] {
        api.must(
            "DELETE",
            &format!("{flow}/{of}/none"),
            &serde_json::Value::Null,
        );
    }
    agent.end();
    api.delete_pod("web");
}

fn a_snapshot_serves_a_restart(api: &mut Api) {
    let ground = Ground::new("snapshot", api, WAIT);
    let uid = api.make_pod(NODE, "web", "one");
    let mut want = ground.write("web", &uid, "first", 10);
    let mut agent = ground.agent();
    agent.awaits_texts(&ground.sink, "web/one", &want);
    agent.end();
    // The pod is gone from the API, the API is silent, and its file is still there.
    api.delete_pod("web");
    api.down();
    want.extend(ground.write("web", &uid, "second", 10));
    let mut agent = ground.agent();
    agent.awaits_texts(&ground.sink, "web/one", &want);
    assert_eq!(agent.metric("tailwake_pods_held", &[]), 0);
    api.up(&[]);
    agent.awaits("the API is heard", heard);
    want.extend(ground.write("web", &uid, "third", 10));
    agent.awaits_texts(&ground.sink, "web/one", &want);
    std::fs::remove_dir_all(ground.bed.path("pods").join(format!("ns_web_{uid}"))).unwrap();
    agent.awaits("it goes with its files", |agent| {
        agent.status()["kubernetes"]["pods"] == json!(0)
    });
    agent.end();
}
