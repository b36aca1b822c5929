//! What no client can bring about from outside: a shard that is gone, and reads of the store that take all their places.

use std::net::{IpAddr, Ipv4Addr};

use tidings_core::protocol::close::CloseCode;
use tidings_core::protocol::since::Since;
use tidings_core::recovery::Archive;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::line::{Admitted, Arrival, Line, Wish};
use super::*;
use crate::auth::Identity;

/// What connections share, with one shard at whose queues the test sits.
fn shared() -> (Arc<Shared>, Outlet) {
    shared_with(None)
}

fn shared_with(store: Option<Store>) -> (Arc<Shared>, Outlet) {
    let secret = ("TIDINGS_AUTH__SECRET".to_owned(), "a-secret-that-only-the-tests-know-of".to_owned());
    let config = crate::config::load(None, &[secret]).unwrap();
    let (inlet, outlet) = Inlet::new(8);
    let metrics = GatewayMetrics::register(&Metrics::new());
    let cluster = Cluster::new(&config.kafka).unwrap();
    let ends = |topic| Ends::new(cluster.clone(), topic, 1, metrics.end_reads.clone());
    let asked = (ends("notifications"), Hearing::new(ends("cursors"), "cursors"));
    let shared = Shared {
        traces: crate::telemetry::Traces::default(),
        complaints: Complaints::new("gateway", Clock::start()),
        access: access(&config.gateway),
        auth: Arc::new(Auth::new(&config.auth).unwrap()),
        unproven: Unproven::new(1, 1),
        epoch: Epoch(1),
        partitions: 1,
        node: "node".parse().unwrap(),
        notifications: "notifications".into(),
        ring: Ring::new(&config.gateway.recovery, metrics.clone()),
        reads: Reads::new(store, asked, &config.gateway),
        roster: Roster::new(&cluster, &config.gateway.presence, (&"node".parse().unwrap(), Clock::start()), &metrics).unwrap(),
        receipts: ReceiptWriter::new(&cluster, Duration::from_secs(1)).unwrap(),
        tally: Tally::new(&config.gateway.counts, Archive::None, metrics.clone()),
        metrics,
        inlets: vec![Arc::new(inlet)],
        connections: TaskTracker::new(),
        draining: CancellationToken::new(),
        phase: AtomicU8::new(Phase::Open as u8),
        config: config.gateway,
        clock: Clock::start(),
    };
    (Arc::new(shared), outlet)
}

/// A connection of alice, and the client's end of it.
async fn connect(shared: &Arc<Shared>) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let caller = Caller { peer: address, address, page: Page::None, place: Arc::new(()) };
    let identity = Identity { user: "alice".parse().unwrap(), roles: Vec::new(), expiry: None };
    let wish = Wish {
        user: None,
        device: "phone".parse().unwrap(),
        named_by: inlet::NamedBy::Client,
        mode: inlet::AckMode::Client,
        locale: None,
        since: Since::default(),
    };
    let admitted = Admitted::new(identity, wish, None).unwrap();
    let line = Line::new(shared.clone(), caller, outbox::Wire::Plain(stream), Vec::new());
    shared.connections.spawn(line.run(Arrival::Known(admitted), Box::default()));
    client
}

/// The frames that the client is sent until the server has left.
async fn heard(mut client: TcpStream) -> Vec<u8> {
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).await.unwrap();
    heard
}

#[tokio::test]
async fn a_connection_whose_shard_is_gone_is_closed_with_4000() {
    let (shared, outlet) = shared();
    drop(outlet);
    let client = connect(&shared).await;
    assert_eq!(heard(client).await, frames::close(CloseCode::Internal));
}

#[tokio::test]
async fn a_connection_whose_shard_goes_is_closed_with_4000_at_its_next_word() {
    let (shared, mut outlet) = shared();
    let mut client = connect(&shared).await;
    let Some(Control::Join(join)) = outlet.controls.recv().await else { panic!("the connection joins first") };
    join.joined.send(Ok(0)).unwrap();
    drop(outlet);
    // A masked text frame, whose mask is zero.
    let text = br#"{"type":"subscribe","channel":"notifications"}"#;
    client.write_all(&[&[0x81, 0x80 | u8::try_from(text.len()).unwrap(), 0, 0, 0, 0], &text[..]].concat()).await.unwrap();
    assert_eq!(heard(client).await, frames::close(CloseCode::Internal));
}

#[tokio::test]
async fn who_comes_in_takes_no_places_of_who_catches_up_and_a_page_keeps_its_own_until_it_is_handed_over() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = crate::config::load(None, &[]).unwrap().store;
    config.url = crate::config::Database::Sqlite(folder.path().join("test.db"));
    let (shared, mut outlet) = shared_with(Some(Store::open(&config).await.unwrap()));
    let pages = shared.config.recovery.page_reads.get();
    // As many come in as may ask at a time.
    let coming = shared.reads.all_starting();
    let question = |number| reads::Question {
        inlet: shared.inlets[0].clone(),
        member: 0,
        channel: "user-alice".parse().unwrap(),
        number,
        wanted: reads::Wanted::Gap(0..10),
        limit: Duration::from_secs(60),
    };
    let mut answers = Vec::new();
    for number in 0..pages as u64 {
        assert!(shared.reads.begin(&shared, question(number)));
        let Some(Control::Found(reply)) = outlet.controls.recv().await else { panic!("an answer comes first") };
        assert!(matches!(reply.found, reads::Found::Gap(_)));
        answers.push(reply);
    }
    assert!(!shared.reads.begin(&shared, question(99)), "all pages wait to be handed over");
    answers.pop();
    assert!(shared.reads.begin(&shared, question(100)));
    drop(coming);
    let (user, device, since) = ("alice".parse().unwrap(), "phone".parse().unwrap(), Since::default());
    let channel = "booking-updates".parse::<tidings_core::channel::Channel>().unwrap();
    // Nobody comes back with a drawn id, so no broker is asked whether somebody did.
    let owner = reads::Owner { user: &user, device: &device, named_by: inlet::NamedBy::Server };
    let starts = shared.reads.starts(&shared, owner, vec![channel.clone()], &since).await;
    assert_eq!(starts, [(channel, tidings_core::recovery::Start::First(None))]);
}
