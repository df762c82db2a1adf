//! Wiring: makes the rooms of a plan, starts their threads, and ends them in order.
//!
//! ```text
//! start: state -> admin bound -> hooks and rings -> guard -> threads
//! control (tokio): signals, discovery, delivery, admin
//! readers: discover::Event -> Feed      encoders: Feed -> Request      disk: positions
//! end: discovery -> readers -> encoders -> delivery -> ledger -> disk
//! ```
//!
//! 1. A data thread is `loop { turn; park }` and nothing else.
//! 2. At the end each stage is emptied before the next is told to end; what the grace period cuts
//!    off stays unacknowledged in its file and is read again at the next start.

mod alarm;
mod canary;
mod confine;
mod control;
mod descriptors;
mod disk;
mod health;
pub mod letters;
mod once;
mod pods;
mod spools;
mod state;
mod status;
mod threads;
mod unread;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use anyhow::Context as _;

pub use status::Status;

use crate::base::count::Registry;
use crate::guard;
use crate::machine::allocator;
use crate::plan::Plan;

/// What a run is told beside its plan.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Make the agent's own threads this many processors' worth; `None` = what the machine has.
    pub cpus: Option<usize>,
    /// Deliver what is there at the start and end, within so many milliseconds; `None` = run on.
    pub once_ms: Option<u64>,
}

/// Runs the agent until SIGTERM or SIGINT, or once. Says whether all that a run once was to deliver is
/// proven delivered, which it prints.
///
/// # Errors
/// What kept it from starting, with what was being done to what.
pub fn run(plan: Plan, options: Options) -> anyhow::Result<bool> {
    descriptors::raise();
    if let Some(asked) = plan.kubernetes() {
        crate::kube::check(asked)?;
    }
    let registry = Arc::new(Registry::default());
    let state = state::State::take(&plan.state, options.once_ms.is_some())?;
    let positions = state.load_positions(&registry);
    spools::prepare(&plan);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the control thread's runtime")?;
    letters::prepare(&plan);
    let listener = plan.admin.map(listen).transpose()?;
    let attached = threads::Attached::new(&plan, options)?;
    let guard = if plan.privileges.drop {
        guard::enter(&confine::confines(&plan), &|| attached.maps_answer())
    } else {
        tracing::info!("privileges are kept, as `privileges.drop: false` says");
        guard::Report::default()
    };
    let threads = threads::Threads::start(&plan, attached, positions, &registry)?;
    allocator::forget_start();
    let start = control::Start {
        threads,
        listener,
        guard,
        state,
        registry,
    };
    runtime.block_on(control::control(&plan, start, options.once_ms))
}

/// Binds the admin listener: its port may need a privilege.
fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).with_context(|| {
        format!("listen on {address} for /metrics and /status (`admin.listen`)")
    })?;
    let address = listener.local_addr().unwrap_or(address);
    tracing::info!(%address, "listening for /metrics, /status, /ready and /healthz");
    Ok(listener)
}
