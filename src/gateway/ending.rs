//! How a connection ends: its last bytes, its code, and what is said of it in logs and metrics.

use std::io;
use std::net::IpAddr;

use prometheus_client::metrics::gauge::Gauge;
use socket2::SockRef;
use tidings_core::ids::{DeviceId, UserId};
use tidings_core::protocol::close::CloseCode;

use super::Shared;
use super::metrics::{ClosedLabels, GatewayMetrics};
use super::moment::millis;
use super::outbox::{Outbox, Phase};

/// Codes of RFC 6455, section 7.4.1, that are never sent: no code given, and no close frame at all.
pub(super) const NO_CODE: u16 = 1005;
pub(super) const NO_CLOSE: u16 = 1006;
const GOING_AWAY: u16 = 1001;

/// Whom the log names.
pub(super) struct Who {
    pub(super) user: UserId,
    pub(super) device: DeviceId,
    pub(super) address: IpAddr,
}

/// Counts a connection for as long as it lives, whatever ends it.
pub(super) struct Open(Gauge);

impl Open {
    pub(super) fn count(metrics: &GatewayMetrics, who: &Who) -> Self {
        let Who { user, device, address } = who;
        tracing::info!(%user, %device, %address, "connection opened");
        metrics.opened.inc();
        metrics.connections.inc();
        Self(metrics.connections.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Says that an admitted connection has ended.
pub(super) fn closed(shared: &Shared, who: &Who, code: u16, since_ms: u64) {
    let Who { user, device, address } = who;
    let duration_ms = millis(shared.clock).saturating_sub(since_ms);
    tracing::info!(%user, %device, %address, code, reason = reason(code), duration_ms, "connection closed");
    count(&shared.metrics, code);
}

/// Says that a connection was upgraded only to be closed; whose it was, if that is known.
pub(super) fn refused(shared: &Shared, (who, address): (Option<&Who>, IpAddr), code: u16, since_ms: u64) {
    let user = who.map(|who| tracing::field::display(&who.user));
    let device = who.map(|who| tracing::field::display(&who.device));
    let duration_ms = millis(shared.clock).saturating_sub(since_ms);
    tracing::info!(user, device, %address, code, reason = reason(code), duration_ms, "connection refused");
    count(&shared.metrics, code);
}

fn count(metrics: &GatewayMetrics, code: u16) {
    // A client may send any code; only those that mean something become a label.
    let known = CloseCode::ALL.iter().any(|known| known.code() == code) || matches!(code, GOING_AWAY | NO_CODE | NO_CLOSE);
    metrics.closed.get_or_create(&ClosedLabels { code: if known { code } else { NO_CODE } }).inc();
}

fn reason(code: u16) -> &'static str {
    match code {
        GOING_AWAY => "Client going away",
        NO_CODE => "Goodbye without a code",
        NO_CLOSE => "Connection lost",
        _ => CloseCode::ALL.iter().find(|known| known.code() == code).map_or("Client's own code", |known| known.reason()),
    }
}

/// Writes what waits, says that nothing follows, and reads on until the client has gone, all within the linger. Gives the code
/// that the connection ended with: the gateway's, if it was the one to end it, else `code`.
pub(super) async fn finish(shared: &Shared, outbox: &Outbox, code: u16) -> u16 {
    let ending = async {
        let flush = || std::future::poll_fn(|cx| outbox.poll_flush(cx, millis(shared.clock)));
        flush().await?;
        outbox.say_goodbye()?;
        flush().await?;
        SockRef::from(outbox.stream()).shutdown(std::net::Shutdown::Write)?;
        // To leave with bytes unread would reset the connection, and with it the close frame.
        let mut discarded = [0; 1024];
        loop {
            outbox.stream().readable().await?;
            match outbox.stream().try_read(&mut discarded) {
                Ok(0) => return Ok::<(), io::Error>(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    };
    // A client that does not read its last frames, or does not leave, is left.
    let _ = tokio::time::timeout(shared.config.linger.0, ending).await;
    match outbox.phase() {
        Phase::Closing(ours) => ours.code(),
        Phase::Open | Phase::Answering | Phase::Broken => code,
    }
}
