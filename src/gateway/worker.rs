//! A named thread whose end can be awaited.
//!
//! Owns: starting it and telling a panic apart. The thread is joined; nothing is left behind.

use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::GatewayError;

/// A running thread.
pub(super) struct Worker {
    name: String,
    /// Answers, by being dropped, when the thread ends in whatever way.
    ended: oneshot::Receiver<()>,
    handle: Option<JoinHandle<Result<(), GatewayError>>>,
}

impl Worker {
    pub(super) fn start(
        name: String,
        work: impl FnOnce() -> Result<(), GatewayError> + Send + 'static,
    ) -> Result<Self, GatewayError> {
        let (running, ended) = oneshot::channel::<()>();
        let handle = std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || {
                let _running = running;
                work()
            })
            .map_err(|source| GatewayError::Thread { name: name.clone(), source })?;
        Ok(Self { name, ended, handle: Some(handle) })
    }

    /// Waits for the thread's end. Safe to be dropped and called again.
    pub(super) async fn ended(&mut self) -> Result<(), GatewayError> {
        // The sender is only ever dropped.
        let _ = (&mut self.ended).await;
        let panicked = || GatewayError::Panicked { name: self.name.clone() };
        self.handle.take().map_or(Ok(()), |handle| handle.join().unwrap_or_else(|_| Err(panicked())))
    }
}
