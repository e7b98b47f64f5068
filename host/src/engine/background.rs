//! Threads of the lowest priority for guests that have had their share of the serving threads.
//!
//! Accepting, timers, logs and every guest that is quick never wait behind a guest that burns:
//! after [`limits::FRONT_TIME`](crate::limits::FRONT_TIME) it goes on here, with what time the others leave.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::runtime::{Builder, Handle, Runtime};

pub(super) struct Background {
    handle: Handle,
    // Taken on drop: a runtime must not be dropped by waiting inside another one.
    runtime: Option<Runtime>,
}

impl Background {
    pub(super) fn start() -> anyhow::Result<Arc<Self>> {
        let runtime = Builder::new_multi_thread()
            .thread_name("background")
            .on_thread_start(lower_priority)
            .enable_all()
            .build()
            .context("starting the background threads")?;
        Ok(Arc::new(Self {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
        }))
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// On Linux the niceness is the thread's own; elsewhere it would be the whole process's.
#[cfg(target_os = "linux")]
fn lower_priority() {
    if let Err(error) = rustix::process::setpriority_process(None, 19) {
        tracing::debug!("background threads keep the normal priority: {error}");
    }
}

#[cfg(not(target_os = "linux"))]
fn lower_priority() {}
