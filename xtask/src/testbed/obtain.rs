//! Gets one real server: from the cache, or built with Go, or fetched with Maven.
//!
//! ```text
//! tests/testbed/<server>/{go.mod,go.sum | pom.xml} -> key -> cache entry -> (build, rename)
//! ```
//!
//! 1. Versions are pinned by the files in `tests/testbed`; nothing here asks for "latest".
//! 2. One build at a time: two tests that need the same server build it once.
//! 3. A finished entry is used as it is, without Go, Maven or a network.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::cache::{Cache, key_of, make_open};
use super::server::Kind;
use super::{step, tools};

/// Where the program or the unpacked home of `kind` lies; builds or fetches it when missing.
pub(crate) fn obtain(kind: Kind, cache: &Cache, install: bool) -> Result<PathBuf> {
    let _builds_alone = cache.lock()?;
    match kind {
        Kind::Loki => go_program(
            cache,
            install,
            "loki",
            "github.com/grafana/loki/v3/cmd/loki",
        ),
        Kind::Promtail => go_program(cache, install, "promtail", "."),
        Kind::Elasticsearch | Kind::OpenSearch => java_home(kind, cache, install),
    }
}

/// The folder of the checkout that describes one server.
pub(super) fn sources(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/testbed")
        .join(name)
}

fn go_program(cache: &Cache, install: bool, name: &str, package: &str) -> Result<PathBuf> {
    let entry = go_programs(cache, install, name, &[(name, package)], "-s -w")?;
    Ok(entry.join(name))
}

/// The folder with the programs of a node: Kubernetes' own and etcd.
pub(crate) fn node_programs(cache: &Cache, install: bool) -> Result<PathBuf> {
    let _builds_alone = cache.lock()?;
    let flags = format!(
        "-s -w -X k8s.io/component-base/version.gitVersion={KUBERNETES} \
         -X k8s.io/client-go/pkg/version.gitVersion={KUBERNETES}"
    );
    go_programs(cache, install, "node", &NODE, &flags)
}

/// The cache entry that holds `programs` (name, package), all of one module.
fn go_programs(
    cache: &Cache,
    install: bool,
    name: &str,
    programs: &[(&str, &str)],
    flags: &str,
) -> Result<PathBuf> {
    let dir = sources(name);
    let read = |file: &str| {
        let path = dir.join(file);
        fs::read(&path).with_context(|| format!("read {}", path.display()))
    };
    let main = fs::read(dir.join("main.go")).unwrap_or_default();
    let entry = cache.entry(&key_of(&[
        name.as_bytes(),
        &read("go.mod")?,
        &read("go.sum")?,
        &main,
    ]));
    let missing = |(program, _): &&(&str, &str)| !entry.join(program).is_file();
    let missing: Vec<_> = programs.iter().filter(missing).collect();
    if missing.is_empty() {
        return Ok(entry);
    }
    let go = tools::need("go", "golang-go", install)?;
    fs::create_dir_all(&entry).with_context(|| format!("create {}", entry.display()))?;
    for (program, package) in missing {
        let part = entry.join(format!("{program}.part"));
        let mut build = Command::new(&go);
        build
            .current_dir(&dir)
            .env("CGO_ENABLED", "0")
            .args(["build", "-trimpath"])
            .arg(format!("-ldflags={flags}"))
            .arg("-o")
            .arg(&part)
            .arg(package);
        let what = format!("building {program} (some minutes, once)");
        step::run(&what, &mut build, &entry.join("build.log"), GO_LIMIT)?;
        let program = entry.join(program);
        fs::rename(&part, &program).with_context(|| format!("place {}", program.display()))?;
    }
    Ok(entry)
}

fn java_home(kind: Kind, cache: &Cache, install: bool) -> Result<PathBuf> {
    let jdk = tools::jdk(install)?;
    let (name, version) = (kind.name(), java_version(kind, jdk.release));
    let dir = sources(name);
    let pom = dir.join("pom.xml");
    let text = fs::read(&pom).with_context(|| format!("read {}", pom.display()))?;
    let plugin = fs::read(dir.join(PLUGIN_SOURCE)).unwrap_or_default();
    let entry = cache.open_entry(&key_of(&[
        name.as_bytes(),
        version.as_bytes(),
        &text,
        &plugin,
    ]));
    let unpacked = format!("{name}-{version}");
    if entry.join(&unpacked).is_dir() {
        return Ok(entry.join(unpacked));
    }
    let mvn = tools::need("mvn", "maven", install)?;
    let part = entry.with_extension("part");
    if part.exists() {
        fs::remove_dir_all(&part).with_context(|| format!("clear {}", part.display()))?;
    }
    make_open(&part)?;
    let mut fetch = Command::new(mvn);
    fetch
        .args(["-B", "-q", "package", "-f"])
        .arg(&pom)
        .arg(format!("-Dnode.version={version}"))
        .arg(format!("-Dtestbed.out={}", part.display()));
    let what = format!("fetching {name} {version}");
    step::run(&what, &mut fetch, &part.join("fetch.log"), FETCH_LIMIT)?;
    if dir.join(PLUGIN_SOURCE).is_file() && version == ELASTICSEARCH {
        add_plugin(&dir, &part, &part.join(&unpacked), &jdk, version)?;
    }
    fs::rename(&part, &entry).with_context(|| format!("place {}", entry.display()))?;
    Ok(entry.join(unpacked))
}

/// Compiles the stand-in plugin against the server's own libraries and places it.
fn add_plugin(dir: &Path, part: &Path, home: &Path, jdk: &tools::Jdk, version: &str) -> Result<()> {
    let (classes, log) = (part.join("classes"), part.join("plugin.log"));
    let folder = home.join("plugins/testbed");
    make_open(&classes)?;
    make_open(&folder)?;
    let mut compile = Command::new(jdk.home.join("bin/javac"));
    compile
        .args(["-nowarn", "--release", "21", "-cp"])
        .arg(home.join("lib/*"))
        .arg("-d")
        .arg(&classes)
        .arg(dir.join(PLUGIN_SOURCE));
    step::run(
        "compiling the test plugin",
        &mut compile,
        &log,
        PLUGIN_LIMIT,
    )?;
    let mut pack = Command::new(jdk.home.join("bin/jar"));
    pack.arg("cf")
        .arg(folder.join("testbed.jar"))
        .arg("-C")
        .arg(&classes)
        .arg(".");
    step::run("packing the test plugin", &mut pack, &log, PLUGIN_LIMIT)?;
    let descriptor = format!(
        "name=testbed\ndescription=what the test distribution leaves out\nversion=1\n\
         elasticsearch.version={version}\njava.version=21\nclassname=testbed.Standins\n"
    );
    let path = folder.join("plugin-descriptor.properties");
    fs::write(&path, descriptor).with_context(|| format!("write {}", path.display()))
}

/// The newest pinned version that runs on a JDK.
fn java_version(kind: Kind, release: u32) -> &'static str {
    match (kind, release >= 21) {
        (Kind::OpenSearch, true) => "3.8.0",
        (Kind::OpenSearch, false) => "2.19.6",
        (Kind::Elasticsearch | Kind::Loki | Kind::Promtail, true) => ELASTICSEARCH,
        (Kind::Elasticsearch | Kind::Loki | Kind::Promtail, false) => "8.19.21",
    }
}

// The version that `tests/testbed/node/go.mod` pins; without it the servers call themselves v0.0.0.
const KUBERNETES: &str = "v1.36.3";
const NODE: [(&str, &str); 6] = [
    ("etcd", "go.etcd.io/etcd/server/v3"),
    ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
    (
        "kube-controller-manager",
        "k8s.io/kubernetes/cmd/kube-controller-manager",
    ),
    ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
    ("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
    ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
];
const ELASTICSEARCH: &str = "9.5.3";
const PLUGIN_SOURCE: &str = "plugin/Standins.java";
// On two busy cores Loki took 7 min 22 s; a limit only ends what hangs.
const GO_LIMIT: Duration = Duration::from_secs(40 * 60);
const FETCH_LIMIT: Duration = Duration::from_secs(10 * 60);
const PLUGIN_LIMIT: Duration = Duration::from_secs(2 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_jdk_gets_the_servers_that_it_can_run() {
        let table = [
            (Kind::Elasticsearch, 25, "9.5.3"),
            (Kind::Elasticsearch, 17, "8.19.21"),
            (Kind::OpenSearch, 21, "3.8.0"),
            (Kind::OpenSearch, 17, "2.19.6"),
        ];
        for (kind, release, want) in table {
            assert_eq!(java_version(kind, release), want);
        }
    }
}
