//! The scenario: what a node does to log files, act after act, and the account at its end.
//!
//! ```text
//! rotation, crash loop, jobs, long names, static pod      plain: printed = expected
//! deletion, killed kubelet, killed containerd             kept:  stood in a file = expected
//! node reboot                                             power: the same
//! meanwhile the agent is killed, rolled out anew, and away
//! ```
//!
//! 1. An act ends when what it provoked has happened, not after a time.
//! 2. Printers of `plain` are let end before an act that takes lines from the runtime.
//! 3. Files are not deleted while the agent is away or behind and about to be killed: no agent could
//!    have what they held.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use harness::print::{Run, runs};
use harness::process::say;
use harness::wire::Output;
use serde_json::{Value, json};

use super::Stage;
use super::account::{Account, Held, Known};
use super::cluster::{processes, until};
use super::manifests::{filled, place};
use super::watch::{Watch, compressed_files, is_watched};
use crate::e2e::{loki_records, search_records};

/// Records that each rotating pod prints, and how many a second: half a MiB, so that each look of the
/// kubelet, every 3 s, finds a log to rotate.
const ROTATED: (&str, &str) = ("60000", "2000");

/// Applies the agent's DaemonSet and waits until its pod is ready.
pub(super) fn start_agent(stage: &Stage) -> Result<()> {
    apply(stage, "agent.yaml", &[])?;
    rolled_out(stage)
}

/// Plays all acts and draws the account.
///
/// # Errors
/// What was lost.
pub(super) fn run(stage: Stage) -> Result<()> {
    let dir = stage.cluster.dir().to_owned();
    let mut play = Play {
        watch: Watch::start(&dir.join("log"), &dir.join("kept"))?,
        stage,
        begun: Instant::now(),
        known: Known::default(),
    };
    play.all()
}

struct Play {
    stage: Stage,
    watch: Watch,
    begun: Instant,
    /// How far printers were at kills.
    known: Known,
}

impl Play {
    fn all(&mut self) -> Result<()> {
        start_agent(&self.stage)?;
        self.act("the agent is ready");
        apply(&self.stage, "namespaces.yaml", &[])?;
        let values = [("RECORDS", ROTATED.0), ("RATE", ROTATED.1)];
        apply(&self.stage, "rotate.yaml", &values)?;
        let dir = self.stage.cluster.dir().to_owned();
        let values = [("DIR", &*dir.to_string_lossy())];
        place("static.yaml", &dir.join("static/static.yaml"), &values)?;
        self.endless("deleted", "kept")?;
        self.printed("kept", 2, 1_000)?;
        self.act("pods print, two of them fast enough for rotation");
        self.kill_agent()?;
        self.roll_out()?;
        self.stay_away()?;
        apply(&self.stage, "lives.yaml", &[])?;
        self.kubectl("delete deployment deleted -n kept --wait=false")?;
        self.act("a deployment is deleted while it prints");
        self.kill_kubelet()?;
        let ended = |runs: &[Run], what: &str, count: usize| {
            let of = |run: &&Run| run.ended && run.container.pod.starts_with(what);
            runs.iter().filter(of).count() >= count
        };
        self.wait("pods of known length have not ended", |runs| {
            ended(runs, "rotate", 2)
                && ended(runs, "short", 12)
                && ended(runs, "crash", 2)
                && ended(runs, "a-pod", 1)
                && ended(runs, "static", 1)
        })?;
        self.act("rotation, jobs, crash loop, long names, static pod have printed all");
        let rotations = compressed_files(&self.stage.cluster.dir().join("log/pods")).len();
        ensure!(
            rotations >= 6,
            "only {rotations} compressed files: no rotation to speak of"
        );
        self.kubectl("delete pod crash -n plain")?;
        self.kubectl("delete deployment rotate -n plain --wait=false")?;
        self.kill_containerd()?;
        // What stands in deleted files alone is gone with the agent: the cut comes after its delivery.
        self.judge(&format!("plain kept {LONG_NAMESPACE}"))?;
        self.reboot()?;
        self.judge("power")
    }

    fn kill_agent(&mut self) -> Result<()> {
        self.keeps_up()?;
        let before = processes("tailwake")?;
        self.stage.cluster.kill("tailwake")?;
        self.known.killed = self.progress()?;
        until(
            RESTART_LIMIT,
            "the agent is not back after its kill",
            || {
                let now = processes("tailwake")?;
                Ok(!now.is_empty() && now.iter().all(|pid| !before.contains(pid)))
            },
        )?;
        self.act("the agent was killed");
        Ok(())
    }

    fn progress(&self) -> Result<BTreeMap<String, u64>> {
        let runs = runs(&self.stage.cluster.dir().join("journal"))?;
        Ok(runs
            .into_iter()
            .map(|run| (run.name, run.printed))
            .collect())
    }

    /// Waits until the agent is at most a second behind the printers at both outputs: what it has
    /// not sent when it leaves stands in no `.gz` yet.
    fn keeps_up(&self) -> Result<()> {
        until(ACT_LIMIT, "the agent does not keep up", || {
            // One that was just started does not listen yet.
            let text = harness::serve::get(ADMIN.parse()?, "/status").unwrap_or_default();
            let status: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
            let read = status["lines_read"].as_u64().unwrap_or(0);
            let near = |output: &str| {
                let lines = status["outputs"][output]["lines_acknowledged"].as_u64();
                lines.is_some_and(|lines| lines > 0 && lines + BEHIND_MAX >= read)
            };
            Ok(near("loki") && near("search"))
        })
    }

    fn roll_out(&mut self) -> Result<()> {
        self.keeps_up()?;
        self.kubectl("rollout restart daemonset/tailwake -n logging")?;
        rolled_out(&self.stage)?;
        self.act("the agent was rolled out anew");
        Ok(())
    }

    /// No agent while the kubelet rotates and compresses what was not read.
    fn stay_away(&mut self) -> Result<()> {
        self.keeps_up()?;
        self.kubectl("delete daemonset tailwake -n logging")?;
        self.kubectl("wait --for=delete pod -l app=tailwake -n logging --timeout=60s")?;
        let pods = self.stage.cluster.dir().join("log/pods");
        let before = compressed_files(&pods);
        until(ACT_LIMIT, "the kubelet does not rotate", || {
            Ok(compressed_files(&pods).difference(&before).count() >= 4)
        })?;
        start_agent(&self.stage)?;
        self.act("the agent was away for two rotations of each log");
        Ok(())
    }

    /// A pod is deleted and another one made while there is no kubelet.
    fn kill_kubelet(&mut self) -> Result<()> {
        self.endless("orphan", "kept")?;
        self.printed("kept", 4, 500)?;
        let before = processes("kubelet")?;
        self.stage.cluster.kill("kubelet")?;
        self.kubectl("delete deployment orphan -n kept --wait=false")?;
        self.endless("newborn", "kept")?;
        until(RESTART_LIMIT, "the kubelet is not back", || {
            Ok(processes("kubelet")?
                .iter()
                .any(|pid| !before.contains(pid)))
        })?;
        self.printed("kept", 6, 500)?;
        self.act("the kubelet was killed while a pod was deleted and another made");
        Ok(())
    }

    fn kill_containerd(&mut self) -> Result<()> {
        let so_far = self.sum("newborn")?;
        self.stage.cluster.kill("containerd")?;
        self.wait("nothing is printed after containerd's kill", |runs| {
            sum(runs, "newborn") > so_far + 3_000
        })?;
        self.end("newborn", "kept")?;
        self.act("containerd was killed while pods printed");
        Ok(())
    }

    fn reboot(&mut self) -> Result<()> {
        self.endless("power", "power")?;
        self.printed("power", 2, 1_500)?;
        self.keeps_up()?;
        self.stage.cluster.cut_power()?;
        self.known.killed = self.progress()?;
        self.stage.cluster.boot()?;
        self.printed("power", 4, 1_000)?;
        rolled_out(&self.stage)?;
        self.act("the node was rebooted");
        self.end("power", "power")?;
        self.wait("the static pod has not printed all once more", |runs| {
            let of = |run: &&Run| run.container.pod.starts_with("static") && run.ended;
            runs.iter().filter(of).count() >= 2
        })?;
        self.act("the last printers have ended");
        Ok(())
    }

    /// A deployment that prints until it is killed.
    fn endless(&self, name: &str, namespace: &str) -> Result<()> {
        let values = [("NAME", name), ("NAMESPACE", namespace)];
        apply(&self.stage, "endless.yaml", &values)
    }

    /// Deletes a deployment and waits until its printers have ended.
    fn end(&self, name: &str, namespace: &str) -> Result<()> {
        self.kubectl(&format!("delete deployment {name} -n {namespace}"))?;
        self.kubectl(&format!(
            "wait --for=delete pod -l app={name} -n {namespace} --timeout=60s"
        ))
    }

    /// Waits until so many runs of a namespace have printed so much each.
    fn printed(&mut self, namespace: &str, count: usize, records: u64) -> Result<()> {
        self.wait(
            &format!("{count} pods of {namespace} have not printed"),
            |runs| {
                let of =
                    |run: &&Run| run.container.namespace == namespace && run.printed >= records;
                runs.iter().filter(of).count() >= count
            },
        )
    }

    fn wait(&mut self, what: &str, reached: impl Fn(&[Run]) -> bool) -> Result<()> {
        let journal = self.stage.cluster.dir().join("journal");
        let cluster = &mut self.stage.cluster;
        until(ACT_LIMIT, what, || {
            cluster.check()?;
            Ok(reached(&runs(&journal)?))
        })
    }

    fn sum(&self, deployment: &str) -> Result<u64> {
        Ok(sum(
            &runs(&self.stage.cluster.dir().join("journal"))?,
            deployment,
        ))
    }

    fn kubectl(&self, line: &str) -> Result<()> {
        let words: Vec<&str> = line.split(' ').collect();
        self.stage.cluster.kubectl(&words).map(drop)
    }

    fn act(&self, what: &str) {
        say(&format!(
            "{:>6.1} s  {what}",
            self.begun.elapsed().as_secs_f64()
        ));
    }

    /// Draws the account of some namespaces until it is clean or nothing has come for a while.
    fn judge(&self, namespaces: &str) -> Result<()> {
        let mut runs = runs(&self.stage.cluster.dir().join("journal"))?;
        runs.retain(|run| {
            namespaces
                .split(' ')
                .any(|name| name == run.container.namespace)
        });
        let files = self.watch.numbers()?;
        let selector = format!("{{namespace=~\"{}\"}}", namespaces.replace(' ', "|"));
        let query = json!({"match": {"kubernetes.namespace": namespaces}});
        let (mut least, mut moved) = (u64::MAX, Instant::now());
        loop {
            let mut account = Account::default();
            for output in [Output::Loki, Output::Elasticsearch] {
                let arrived = match output {
                    Output::Loki => loki_records(&self.stage.loki.url, &selector)?,
                    Output::Elasticsearch => search_records(&self.stage.search.url, INDEX, &query)?,
                };
                let held = Held::take(&arrived, &runs);
                for run in &runs {
                    let files = is_watched(&run.container.namespace).then_some(&files);
                    account.add(run, output, &held, files, &self.known);
                }
            }
            if account.is_clean() {
                self.act("every record is there");
                say(&account.to_string());
                return Ok(());
            }
            if account.missing() < least {
                (least, moved) = (account.missing(), Instant::now());
            }
            if moved.elapsed() > QUIET {
                bail!("what was printed and what is held differ:\n{account}");
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    }
}

fn rolled_out(stage: &Stage) -> Result<()> {
    let words = "rollout status daemonset/tailwake -n logging --timeout=90s";
    let words: Vec<&str> = words.split(' ').collect();
    stage.cluster.kubectl(&words).map(drop)
}

fn apply(stage: &Stage, file: &str, values: &[(&str, &str)]) -> Result<()> {
    let dir = stage.cluster.dir().display().to_string();
    let mut all = vec![
        ("DIR", dir.as_str()),
        ("LOKI", &stage.loki.url),
        ("SEARCH", &stage.search.url),
    ];
    all.extend(values);
    stage.cluster.apply(&filled(file, &all)?)
}

/// What all runs of a deployment have printed.
fn sum(runs: &[Run], deployment: &str) -> u64 {
    let of = runs
        .iter()
        .filter(|run| run.container.pod.starts_with(deployment));
    of.map(|run| run.printed).sum()
}

/// See `tests/node/lives.yaml`.
const LONG_NAMESPACE: &str = "a-namespace-of-sixty-three-characters-as-long-as-it-may-be-here";

const INDEX: &str = "tailwake-node";

/// See `tests/node/agent.yaml`.
const ADMIN: &str = "127.0.0.1:9400";

/// Lines: what all printers print in a second.
const BEHIND_MAX: u64 = 5_000;

/// A loop of crashes waits 10 s between its first attempts.
const RESTART_LIMIT: Duration = Duration::from_secs(40);

const ACT_LIMIT: Duration = Duration::from_secs(90);

/// So long without a new record, and the account is drawn as it stands.
const QUIET: Duration = Duration::from_secs(8);
