//! The watch of this node's pods at the Kubernetes API: the only room that names the kube crate.
//!
//! ```text
//! control --start--> task: list, watch --Update--> queue, bell --> control: Tree::hear_api
//!                     ^--- cut: silent beyond the server's own time-out ---'
//! ```
//!
//! 1. One request is under way at a time: a streamed list that goes on as a watch, where the server has
//!    that, else a list and a watch. Only this node's pods are asked for.
//! 2. Nothing here is a timer while the watch is open: the server ends it, and the control thread's
//!    alarm ends one that even the server has forgotten.
//! 3. Whatever fails is tried again for ever, with the configuration and the token read anew. What was
//!    known stays known meanwhile.
//!
//! Without the feature `kube` there is no client, and a plan that asks for metadata does not start.

#[cfg(feature = "kube")]
mod access;
#[cfg(any(feature = "kube", test))]
mod trouble;
#[cfg(feature = "kube")]
mod watch;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::base::bell::Bell;
use crate::base::count::{Counter, Registry};
use crate::base::time::{MachineClock, Mono};
use crate::plan::Kubernetes;
use crate::roster::Update;

/// Why there can be no watch; nothing but a new start changes it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The feature is off.
    #[error(
        "this build of the agent has no Kubernetes client: build it with the feature `kube`, as \
         `cargo xtask build` does, or remove `kubernetes` from the config"
    )]
    NoClient,
    /// Neither in a cluster nor told where one is.
    #[error(
        "the Kubernetes API is asked for metadata, and KUBERNETES_SERVICE_HOST and \
         KUBERNETES_SERVICE_PORT are not set: run the agent as a pod, or set `kubeconfig` in the \
         input's `kubernetes`"
    )]
    NoCluster,
}

/// What the watch must reach once the agent is confined.
#[derive(Debug, Default)]
pub struct Reach {
    /// Files and directories that are read again and again.
    pub read: Vec<PathBuf>,
    /// The server's port; none when it cannot be told.
    pub port: Option<u16>,
}

/// This node's name in the API: as the config says, else as `NODE_NAME` says, else the host's.
#[must_use]
pub fn node_name(asked: &Kubernetes) -> String {
    let variable = || {
        std::env::var("NODE_NAME")
            .ok()
            .filter(|name| !name.is_empty())
    };
    asked.node.clone().or_else(variable).unwrap_or_else(|| {
        let system = rustix::system::uname();
        system.nodename().to_string_lossy().to_lowercase()
    })
}

/// What a watch would have to reach.
#[must_use]
pub fn reach(asked: &Kubernetes) -> Reach {
    #[cfg(feature = "kube")]
    return access::reach(asked);
    #[cfg(not(feature = "kube"))]
    {
        let _ = asked;
        Reach::default()
    }
}

/// Whether there can be a watch.
///
/// # Errors
/// Why not.
pub fn check(asked: &Kubernetes) -> Result<(), Error> {
    if !cfg!(feature = "kube") {
        return Err(Error::NoClient);
    }
    let missing = |name| std::env::var_os(name).is_none();
    let variables = ["KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"];
    if asked.kubeconfig.is_none() && variables.into_iter().any(missing) {
        return Err(Error::NoCluster);
    }
    Ok(())
}

/// The watch, as control has it.
#[derive(Debug)]
pub struct Watching {
    shared: Arc<Shared>,
    node: String,
}

/// What the task and control share.
#[derive(Debug)]
#[cfg_attr(
    not(feature = "kube"),
    expect(dead_code, reason = "without a client there is no task")
)]
struct Shared {
    updates: Mutex<VecDeque<Update>>,
    control: Bell,
    clock: MachineClock,
    /// When the open watch is over by the server's clock, with time to spare; 0 = none is open.
    until: AtomicU64,
    cut: Notify,
    /// Why the API is not heard.
    trouble: Mutex<Option<String>>,
    heard: Arc<Counter>,
    errors: Arc<Counter>,
    lists: Arc<Counter>,
}

impl Watching {
    /// Starts the task on the runtime of the calling thread.
    #[must_use]
    pub fn start(
        asked: &Kubernetes,
        control: Bell,
        clock: MachineClock,
        registry: &Registry,
    ) -> Self {
        let count = |name, help| registry.counter(name, help, &[]);
        let shared = Arc::new(Shared {
            updates: Mutex::default(),
            control,
            clock,
            until: AtomicU64::new(0),
            cut: Notify::new(),
            trouble: Mutex::new(Some("it was not asked yet".to_owned())),
            heard: registry.gauge(
                "tailwake_kubernetes_heard",
                "1 while the watch of this node's pods is open.",
                &[],
            ),
            errors: count(
                "tailwake_kubernetes_errors_total",
                "Requests to the Kubernetes API that failed; they are tried again.",
            ),
            lists: count(
                "tailwake_kubernetes_lists_total",
                "Times all pods of the node were asked for.",
            ),
        });
        let node = node_name(asked);
        #[cfg(feature = "kube")]
        {
            let task = watch::watch(asked.clone(), node.clone(), Arc::clone(&shared));
            tokio::spawn(task);
        }
        Self { shared, node }
    }

    /// The next thing that the watch tells.
    #[must_use]
    pub fn next(&self) -> Option<Update> {
        let updates = self.shared.updates.lock();
        let mut updates = updates.unwrap_or_else(PoisonError::into_inner);
        let next = updates.pop_front();
        if updates.is_empty() && updates.capacity() > UPDATES_KEPT {
            updates.shrink_to(UPDATES_KEPT);
        }
        next
    }

    /// Ends a watch that is over and was not ended; says when to look again.
    pub fn turn(&self, now: Mono) -> Option<Mono> {
        let until = self.shared.until.load(Ordering::Acquire);
        if until == 0 {
            return None;
        }
        if until <= now.0 {
            self.shared.until.store(0, Ordering::Release);
            self.shared.cut.notify_one();
            return None;
        }
        Some(Mono(until))
    }

    /// The node that is asked for.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// A face for `/status`.
    #[must_use]
    pub fn board(&self) -> Board {
        Board {
            shared: Arc::clone(&self.shared),
            node: self.node.clone(),
        }
    }
}

/// What `/status` says of the watch.
#[derive(Debug)]
pub struct Board {
    shared: Arc<Shared>,
    node: String,
}

impl Board {
    /// The node that is asked for.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Why the API is not heard; none = it is.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let trouble = self.shared.trouble.lock();
        trouble.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Updates that room is kept for; a list needs more.
const UPDATES_KEPT: usize = 64;

#[cfg(feature = "kube")]
impl Shared {
    /// Tells control; says how many updates wait.
    fn tell(&self, update: Update) -> usize {
        let updates = self.updates.lock();
        let mut updates = updates.unwrap_or_else(PoisonError::into_inner);
        updates.push_back(update);
        self.control.ring();
        updates.len()
    }

    /// The API is heard, or not, and why.
    fn set_trouble(&self, trouble: Option<String>) {
        self.heard.set(u64::from(trouble.is_none()));
        let have = self.trouble.lock();
        *have.unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}
