//! Reloading: SIGHUP asks every room that holds something from a file to read it again.
//!
//! Owns: the one listener for SIGHUP. Refuses to know what is read again: whoever wants to hear of it is given a receiver, and
//! says itself what came of it. Neighbours: `pipeline` reads its rules again; the process never ends by this signal.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Hears SIGHUP.
pub(super) struct Reload {
    signal: Signal,
    /// How often it was asked for.
    requests: watch::Sender<u64>,
}

impl Reload {
    /// From here on SIGHUP is a request, also before [`Reload::serve`] runs.
    ///
    /// # Errors
    /// If the system refuses the listener.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self { signal: signal(SignalKind::hangup())?, requests: watch::Sender::new(0) })
    }

    /// For a room that wants to hear: it changes with each request. Several that come while the room is at work are one.
    pub(super) fn requests(&self) -> watch::Receiver<u64> {
        self.requests.subscribe()
    }

    /// Passes requests on until `stop`.
    pub(super) async fn serve(mut self, stop: CancellationToken) {
        while let Some(Some(())) = stop.run_until_cancelled(self.signal.recv()).await {
            tracing::info!(signal = "SIGHUP", "reading again what may change while the process runs");
            self.requests.send_modify(|requests| *requests += 1);
        }
        // If the system ends the stream, this is still no reason for the process to end.
        stop.cancelled().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everyone_who_listens_hears_each_request_even_one_from_before_it_was_served() {
        let reload = Reload::listen().unwrap();
        let mut rooms = [reload.requests(), reload.requests()];
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGHUP).unwrap();
        let stop = CancellationToken::new();
        let serving = reload.serve(stop.clone());
        let hearing = async {
            for room in &mut rooms {
                room.changed().await.unwrap();
            }
            stop.cancel();
        };
        tokio::join!(serving, hearing);
        assert!(rooms.iter().all(|room| *room.borrow() > 0));
    }
}
