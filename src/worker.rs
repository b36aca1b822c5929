//! A named thread whose end can be awaited.
//!
//! Owns: starting it, joining it, and telling a panic apart from an error. Refuses to stop a thread: whoever starts one gives it
//! what it listens to. Neighbours: every service that works outside of the runtime runs on these.

use std::thread::JoinHandle;

use tidings_core::fate::Cause;
use tokio::sync::oneshot;

/// Why a thread did not run, or did not end by itself.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The system gave no thread.
    #[error("the thread {name} could not be started")]
    Start {
        /// Its name.
        name: String,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A promise of our own code is broken.
    #[error("the thread {name} panicked, which is a bug; its message stands above in the log")]
    Panicked {
        /// Its name.
        name: String,
    },
}

impl WorkerError {
    /// Whose fault it is.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            Self::Start { .. } => Cause::Dependency,
            Self::Panicked { .. } => Cause::Bug,
        }
    }
}

/// A running thread. Dropped, it runs on by itself.
pub struct Worker<E> {
    name: String,
    /// Answers, by being dropped, when the thread ends in whatever way.
    ended: oneshot::Receiver<()>,
    /// Taken by whoever hears of the end first.
    handle: Option<JoinHandle<Result<(), E>>>,
}

impl<E: From<WorkerError> + Send + 'static> Worker<E> {
    /// Starts a thread.
    ///
    /// # Errors
    /// If the system gives none.
    pub fn start(name: String, work: impl FnOnce() -> Result<(), E> + Send + 'static) -> Result<Self, WorkerError> {
        let (running, ended) = oneshot::channel::<()>();
        let body = move || {
            let _running = running;
            work()
        };
        match std::thread::Builder::new().name(name.clone()).spawn(body) {
            Ok(handle) => Ok(Self { name, ended, handle: Some(handle) }),
            Err(source) => Err(WorkerError::Start { name, source }),
        }
    }

    /// Waits for the thread's end. Safe to be dropped and called again; the outcome is told once, then all is well.
    ///
    /// # Errors
    /// What the thread ended with, or that it panicked.
    pub async fn ended(&mut self) -> Result<(), E> {
        if self.handle.is_some() {
            // The sender is only ever dropped.
            let _ = (&mut self.ended).await;
        }
        self.outcome()
    }

    /// Blocks until the thread's end.
    ///
    /// # Errors
    /// What the thread ended with, or that it panicked.
    pub fn join(mut self) -> Result<(), E> {
        self.outcome()
    }

    fn outcome(&mut self) -> Result<(), E> {
        let panicked = || WorkerError::Panicked { name: self.name.clone() };
        self.handle.take().map_or(Ok(()), |handle| handle.join().unwrap_or_else(|_| Err(panicked().into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_a_thread_is_told_once() {
        let failing = || Err(WorkerError::Panicked { name: "told".into() });
        let mut worker = Worker::start("fails".into(), failing).unwrap();
        assert_eq!(worker.ended().await.unwrap_err().to_string(), failing().unwrap_err().to_string());
        assert!(worker.ended().await.is_ok());
    }

    #[tokio::test]
    async fn a_panic_becomes_an_error_with_the_name_of_the_thread() {
        let mut worker = Worker::<WorkerError>::start("breaks".into(), || panic!("on purpose")).unwrap();
        assert!(matches!(worker.ended().await, Err(WorkerError::Panicked { name }) if name == "breaks"));
        let worker = Worker::<WorkerError>::start("joined".into(), || panic!("on purpose")).unwrap();
        assert_eq!(worker.join().unwrap_err().cause(), Cause::Bug);
    }
}
