//! The command line, the config and the account that each server is started with.
//!
//! 1. Everything listens on loopback only.
//! 2. A Java server never runs as root: it is handed to `nobody` with its folder.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::cache::{make_open, runs_as_root};
use super::obtain::sources;
use super::server::{Kind, Options, free_port};
use super::tools;

/// Prepares `dir` and returns the command that starts the server.
pub(super) fn command(
    kind: Kind,
    program: &Path,
    dir: &Path,
    port: u16,
    options: &Options,
) -> Result<Command> {
    make_open(dir)?;
    match kind {
        Kind::Loki => loki(program, dir, port, options),
        Kind::Promtail => Ok(promtail(program, dir, port, options)),
        Kind::Elasticsearch | Kind::OpenSearch => java(kind, program, dir, port, options),
    }
}

fn loki(program: &Path, dir: &Path, port: u16, options: &Options) -> Result<Command> {
    let config = dir.join("loki.yaml");
    fs::copy(sources("loki").join("loki.yaml"), &config)
        .with_context(|| format!("write {}", config.display()))?;
    let mut command = Command::new(program);
    command
        .current_dir(dir)
        .arg(format!("-config.file={}", config.display()))
        .arg("-config.expand-env=true")
        .args(&options.args)
        .env("DIR", dir.join("data"))
        .env("HTTP_PORT", port.to_string())
        .env("GRPC_PORT", free_port()?.to_string())
        .envs(options.env.iter().map(|(name, value)| (name, value)));
    Ok(command)
}

fn promtail(program: &Path, dir: &Path, port: u16, options: &Options) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(dir)
        .arg("-server.http-listen-address=127.0.0.1")
        .arg(format!("-server.http-listen-port={port}"))
        .arg("-server.grpc-listen-address=127.0.0.1")
        .arg("-server.grpc-listen-port=0")
        .arg(format!(
            "-positions.file={}",
            dir.join("positions.yaml").display()
        ))
        .args(&options.args)
        .envs(options.env.iter().map(|(name, value)| (name, value)));
    command
}

fn java(kind: Kind, home: &Path, dir: &Path, port: u16, options: &Options) -> Result<Command> {
    let jdk = tools::jdk(options.install)?;
    write_conf(home, dir)?;
    let heap = options.heap_mib.unwrap_or(HEAP_MIB);
    let prefix = if kind == Kind::OpenSearch {
        "OPENSEARCH"
    } else {
        "ES"
    };
    let mut command = Command::new(home.join("bin").join(kind.name()));
    command
        .current_dir(dir)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", dir)
        .env(format!("{prefix}_JAVA_HOME"), &jdk.home)
        .env(format!("{prefix}_PATH_CONF"), dir.join("conf"))
        .env(format!("{prefix}_TMPDIR"), dir.join("tmp"))
        .env(
            format!("{prefix}_JAVA_OPTS"),
            format!("-Xms{heap}m -Xmx{heap}m"),
        )
        .arg(format!("-Epath.data={}", dir.join("data").display()))
        .arg(format!("-Epath.logs={}", dir.join("logs").display()))
        .arg(format!("-Ehttp.port={port}"))
        .args(JAVA_SETTINGS);
    let asked = |name: &str| options.args.iter().any(|arg| arg.contains(name));
    if kind == Kind::Elasticsearch && !asked("xpack.security.enabled") {
        command.arg("-Expack.security.enabled=false");
    }
    command.args(&options.args);
    if runs_as_root() {
        give_away(dir)?;
        command.uid(NOBODY).gid(NOBODY);
    }
    Ok(command)
}

/// Copies the server's own config without what writes beside it, and logs to standard output.
fn write_conf(home: &Path, dir: &Path) -> Result<()> {
    for folder in ["data", "conf", "tmp", "logs"] {
        make_open(&dir.join(folder))?;
    }
    copy_tree(&home.join("config"), &dir.join("conf"))?;
    let options = dir.join("conf/jvm.options");
    let text =
        fs::read_to_string(&options).with_context(|| format!("read {}", options.display()))?;
    fs::write(&options, trim_jvm_options(&text))?;
    fs::write(dir.join("conf/log4j2.properties"), LOG_CONFIG)?;
    Ok(())
}

/// Drops heap sizes, dumps and garbage collector logs from a `jvm.options` file.
fn trim_jvm_options(text: &str) -> String {
    const DROPPED: [&str; 5] = ["-Xms", "-Xmx", "HeapDump", "ErrorFile", "gc.log"];
    let mut kept = String::new();
    for line in text.lines() {
        if !DROPPED.iter().any(|word| line.contains(word)) {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    let mut folders = vec![(from.to_path_buf(), to.to_path_buf())];
    while let Some((from, to)) = folders.pop() {
        make_open(&to)?;
        for entry in fs::read_dir(&from).with_context(|| format!("list {}", from.display()))? {
            let entry = entry?;
            let target = to.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                folders.push((entry.path(), target));
            } else {
                fs::copy(entry.path(), &target)
                    .with_context(|| format!("write {}", target.display()))?;
            }
        }
    }
    Ok(())
}

fn give_away(dir: &Path) -> Result<()> {
    let mut paths = vec![dir.to_path_buf()];
    while let Some(path) = paths.pop() {
        chown(&path, Some(NOBODY), Some(NOBODY))
            .with_context(|| format!("give {} to nobody", path.display()))?;
        if fs::symlink_metadata(&path)?.is_dir() {
            for entry in fs::read_dir(&path)? {
                paths.push(entry?.path());
            }
        }
    }
    Ok(())
}

// The account that owns nothing, on every Linux.
const NOBODY: u32 = 65534;
const HEAP_MIB: u32 = 512;
const JAVA_SETTINGS: [&str; 7] = [
    "-Ehttp.host=127.0.0.1",
    "-Etransport.host=127.0.0.1",
    "-Etransport.port=0",
    "-Ediscovery.type=single-node",
    "-Enode.name=node-1",
    "-Ecluster.name=testbed",
    // A full build disk must not turn a test into a flood-stage test.
    "-Ecluster.routing.allocation.disk.threshold_enabled=false",
];
const LOG_CONFIG: &str = "status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %-5p %c{1.} %m%n
rootLogger.level = info
rootLogger.appenderRef.out.ref = out
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jvm_options_lose_heap_dumps_and_gc_logs() {
        let text = "# heap\n-Xms1g\n-Xmx1g\n-XX:+UseG1GC\n9-:-Xlog:gc*:file=logs/gc.log:utctime\n\
                    -XX:+HeapDumpOnOutOfMemoryError\n-XX:ErrorFile=x.log\n";
        assert_eq!(trim_jvm_options(text), "# heap\n-XX:+UseG1GC\n");
    }
}
