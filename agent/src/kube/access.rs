//! How the API is reached: as a pod of the cluster, or by a kubeconfig. All files are read anew for each
//! client, so that a client is never older than its token or its authorities.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::Reach;
use crate::plan::Kubernetes;

/// Where kubelet mounts the token and the authority; replaced below by renaming, as a whole.
const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);

/// A client with what its files say now.
///
/// # Errors
/// What cannot be read or does not hold.
pub(super) async fn client(asked: &Kubernetes) -> Result<Client, String> {
    let mut config = match &asked.kubeconfig {
        None => Config::incluster().map_err(|error| {
            format!(
                "the pod's access to the API cannot be read below {MOUNT}: {}",
                all(&error)
            )
        })?,
        Some(path) => from_file(path).await?,
    };
    refuse_programs(&config.auth_info)?;
    config.connect_timeout = Some(CONNECT);
    // A watch is silent for as long as nothing happens; the control thread's alarm ends a dead one.
    (config.read_timeout, config.write_timeout) = (None, None);
    // What is tried again, and when, is this room's to say.
    config.default_retry = false;
    let agent = concat!("tailwake/", env!("CARGO_PKG_VERSION"));
    let value = http::HeaderValue::from_static(agent);
    config.headers.push((http::header::USER_AGENT, value));
    Client::try_from(config).map_err(|error| format!("set up access to the API: {}", all(&error)))
}

async fn from_file(path: &Path) -> Result<Config, String> {
    let failed = |error: &dyn std::error::Error| {
        format!(
            "the kubeconfig {} cannot be used: {}",
            path.display(),
            all(error)
        )
    };
    let read = Kubeconfig::read_from(path).map_err(|error| failed(&error))?;
    let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await;
    config.map_err(|error| failed(&error))
}

/// The agent runs no program once it has started.
fn refuse_programs(access: &AuthInfo) -> Result<(), String> {
    if access.exec.is_none() && access.auth_provider.is_none() {
        return Ok(());
    }
    Err("the kubeconfig gets its token from a program, and the agent runs none: give it a `token`, a \
         `tokenFile`, or a client certificate"
        .to_owned())
}

/// An error with its causes: those of kube name the file or the cause in the last of them.
pub(super) fn all(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    // Kube's name for whatever its layers have to say.
    said = said.trim_start_matches("ServiceError: ").to_owned();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_said = cause.to_string();
        if !said.contains(&cause_said) {
            said = format!("{said}: {cause_said}");
        }
        next = cause.source();
    }
    said
}

/// What must stay reachable.
pub(super) fn reach(asked: &Kubernetes) -> Reach {
    let Some(path) = &asked.kubeconfig else {
        let port = std::env::var("KUBERNETES_SERVICE_PORT");
        return Reach {
            read: vec![PathBuf::from(MOUNT)],
            port: port.ok().and_then(|port| port.parse().ok()),
        };
    };
    let mut files = vec![path.clone()];
    let mut port = None;
    if let Ok(config) = Kubeconfig::read_from(path) {
        // Relative names were made whole while it was read.
        for named in &config.auth_infos {
            let access = named.auth_info.iter();
            let named = access.flat_map(|access| {
                [
                    &access.token_file,
                    &access.client_certificate,
                    &access.client_key,
                ]
            });
            files.extend(named.flatten().map(PathBuf::from));
        }
        let clusters = config
            .clusters
            .iter()
            .filter_map(|named| named.cluster.as_ref());
        for cluster in clusters.clone() {
            files.extend(cluster.certificate_authority.iter().map(PathBuf::from));
        }
        let mut ports = clusters.map(|cluster| port_of(cluster.server.as_deref()?));
        let first = ports.next().flatten();
        port = first.filter(|first| ports.all(|port| port == Some(*first)));
    }
    // A file that is replaced by renaming is another one below its directory.
    let parents = files.iter().filter_map(|file| file.parent());
    let parents = parents.filter(|dir| ![Path::new("/"), Path::new("/etc")].contains(dir));
    let mut read: Vec<PathBuf> = parents.map(Path::to_owned).collect();
    read.extend(files);
    Reach { read, port }
}

fn port_of(url: &str) -> Option<u16> {
    let url: http::Uri = url.parse().ok()?;
    let default = if url.scheme_str() == Some("http") {
        80
    } else {
        443
    };
    Some(url.port_u16().unwrap_or(default))
}
