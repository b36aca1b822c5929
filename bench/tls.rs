//! What TLS in the server costs, beside plain tidings of the same run.

use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;

use crate::clients::Clients;
use crate::report::{Budget, Pair, Report, say};
use crate::server::{Server, Setup};
use crate::{Size, connections, fanout};

/// Connections; each handshake costs a client of the same machine as much as the server.
const CONNECTIONS: usize = 2000;
/// Notifications a second; each becomes a frame on every connection.
const RATE: u64 = 20;

/// The same loads, with and without TLS.
pub(crate) async fn run(size: &Size, report: &mut Report) -> anyhow::Result<()> {
    let size = Size { connections: CONNECTIONS, ..size.clone() };
    let folder = tempfile::tempdir()?;
    let setup = certified(folder.path())?;
    let (mut tls, mut plain) = (Vec::new(), Vec::new());
    for run in 1..=size.runs {
        tls.push((
            connections::once(ready(&size, &setup).await?, &size, CONNECTIONS).await?,
            fanout::once(ready(&size, &setup).await?, &size, RATE).await?,
        ));
        let gateway = Setup::gateway();
        plain.push((
            connections::once(Server::tidings(&size.brokers, &gateway).await?, &size, CONNECTIONS).await?,
            fanout::once(Server::tidings(&size.brokers, &gateway).await?, &size, RATE).await?,
        ));
        say(&format!("tls {run}: {:?}, plain {:?}", tls.last(), plain.last()));
    }
    let open = Pair::of(&tls, &plain, |(connections, _)| connections.open_cpu_us);
    report.add("TLS: connect, verify, subscribe: CPU (bare: plain tidings)", "µs", open, Budget::None);
    let idle = Pair::of(&tls, &plain, |(connections, _)| connections.idle_kib);
    report.add("TLS: resident per idle connection (bare: plain tidings)", "KiB", idle, Budget::None);
    let frame = Pair::of(&tls, &plain, |(_, fanout)| fanout.frame_cpu_us);
    report.add("TLS: CPU per frame (bare: plain tidings)", "µs", frame, Budget::None);
    Ok(())
}

/// A gateway with a certificate of an hour.
fn certified(folder: &std::path::Path) -> anyhow::Result<Setup> {
    let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-out".as_ref(), certificate.as_os_str(), "-keyout".as_ref(), key.as_os_str()])
        .output()
        .context("the command `openssl` is needed for a certificate")?;
    anyhow::ensure!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
    let files = [("GATEWAY__TLS__CERTIFICATE", certificate), ("GATEWAY__TLS__KEY", key)];
    let config = files.map(|(key, file)| (key, file.display().to_string())).to_vec();
    Ok(Setup { config, ..Setup::gateway() })
}

/// A server that takes connections.
async fn ready(size: &Size, setup: &Setup) -> anyhow::Result<Server> {
    let server = Server::tidings(&size.brokers, setup).await?;
    for _ in 0..300 {
        if Clients::connect(&server, 1).await.is_ok() {
            return Ok(server);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("tidings took no TLS connection within 30 s")
}
