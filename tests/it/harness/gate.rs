//! A gate in front of a database: it takes connections, and may stop passing anything on, as a network may.

use std::net::SocketAddr;

use tidings::config::Database;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What lies between tidings and its database.
pub(crate) struct Gate {
    is_open: watch::Sender<bool>,
}

impl Gate {
    /// A gate in front of a PostgreSQL server, and the database as it is reached through it.
    pub(crate) async fn before(database: &Database) -> (Self, Database) {
        let Database::Postgres(url) = database else { panic!("no server") };
        let at = url.find("127.0.0.1:").expect("it listens on the loopback") + "127.0.0.1:".len();
        let digits = url[at..].bytes().take_while(u8::is_ascii_digit).count();
        let server: SocketAddr = format!("127.0.0.1:{}", &url[at..at + digits]).parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (is_open, watched) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(server).await.unwrap();
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                tokio::spawn(pass_on(from_client, to_server, watched.clone()));
                tokio::spawn(pass_on(from_server, to_client, watched.clone()));
            }
        });
        let through = format!("{}{}{}", &url[..at], port, &url[at + digits..]);
        (Self { is_open }, through.parse().unwrap())
    }

    /// Passes nothing on from now on; nobody is told.
    pub(crate) fn close(&self) {
        self.is_open.send_replace(false);
    }

    /// Passes on what waited, and what comes.
    pub(crate) fn open(&self) {
        self.is_open.send_replace(true);
    }
}

async fn pass_on(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut is_open: watch::Receiver<bool>) {
    let mut bytes = vec![0; 65_536];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        if is_open.wait_for(|is_open| *is_open).await.is_err() || to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}
