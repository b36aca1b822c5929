//! A trial: a world under load in which something breaks, and the ledger of it.
//!
//! Owns: the order of things (processes, devices, load, fault, end of the load, settling) and what is printed. What breaks is the business of
//! `kills`, `brokers`, `stores`, `refusals`, `clocks`, `peers` and `storms`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::StdRng;
use reqwest::Method;

use crate::crew::Crew;
use crate::devices::{Devices, Nodes};
use crate::evidence;
use crate::harness::rest::{request, token};
use crate::harness::world::World;
use crate::harness::{HANG, eventually, seed};
use crate::ledger::{Ledger, Place};
use crate::load::{Load, Weight};

/// How often a fault is repeated: once in the short form.
pub(crate) fn rounds() -> usize {
    std::env::var("TIDINGS_CHAOS_ROUNDS").ok().map_or(1, |text| text.parse().expect("TIDINGS_CHAOS_ROUNDS is a number"))
}

/// A world in which something is about to break.
pub(crate) struct Trial {
    fault: &'static str,
    seed: u64,
    random: StdRng,
    pub(crate) nodes: Nodes,
    pub(crate) crew: Crew,
    pub(crate) devices: Devices,
    load: Load,
    /// Goes last, and its topics with it.
    pub(crate) world: Arc<World>,
    weight: Weight,
    /// Letters that lay on a `dlq` which is gone by now.
    letters: BTreeSet<Place>,
    /// How often an operator had to send again what was pending.
    retries: usize,
    started: Instant,
    /// What was done, for the one who reads the ledger.
    notes: Vec<String>,
}

impl Trial {
    /// Starts processes with these roles, and the load once all are ready and all devices are there.
    pub(crate) async fn begin(fault: &'static str, world: World, crew: &[&'static [&'static str]]) -> Self {
        let world = Arc::new(world);
        let mut processes = Crew::new(world.clone(), Nodes::default());
        for roles in crew {
            processes.join(roles);
        }
        Self::with(fault, world, processes, Weight::LIGHT).await
    }

    /// The same with processes that are there already, and a load of this weight.
    pub(crate) async fn with(fault: &'static str, world: Arc<World>, mut crew: Crew, weight: Weight) -> Self {
        let (seed, random) = seed::drawn(fault);
        crew.until_all_ready().await;
        let nodes = crew.nodes();
        let devices = Devices::begin(&nodes);
        devices.until_connected().await;
        let load = Load::begin(world.clone(), weight);
        let trial = Self {
            fault,
            seed,
            random,
            world,
            nodes,
            crew,
            devices,
            load,
            weight,
            letters: BTreeSet::new(),
            retries: 0,
            started: Instant::now(),
            notes: Vec::new(),
        };
        trial.until_said(40).await;
        trial
    }

    /// Something from this range of milliseconds, and waits so long.
    pub(crate) async fn pause(&mut self, millis: std::ops::Range<u64>) {
        let moment = Duration::from_millis(self.random.random_range(millis));
        tokio::time::sleep(moment).await;
    }

    pub(crate) fn random(&mut self) -> &mut StdRng {
        &mut self.random
    }

    /// One of so many.
    pub(crate) fn draw(&mut self, count: usize) -> usize {
        self.random.random_range(0..count)
    }

    /// The same, while processes that end by themselves are started again.
    pub(crate) async fn tended_pause(&mut self, millis: std::ops::Range<u64>) {
        let end = Instant::now() + Duration::from_millis(self.random.random_range(millis));
        while Instant::now() < end {
            self.crew.tend();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    pub(crate) fn said(&self) -> usize {
        self.load.said().len()
    }

    /// Waits until the brokers have taken so many more events.
    pub(crate) async fn until_said(&self, more: usize) {
        let goal = self.said() + more;
        eventually("the load goes on", async || (self.said() >= goal).then_some(())).await;
    }

    /// Kills a member at a drawn moment at which it has something in hand, and starts another in its place.
    pub(crate) async fn kill(&mut self, number: usize) {
        self.crew.until_ready(number).await;
        let roles = self.crew.roles(number);
        // An inbox has hardly ever anything in hand. What comes while it is dead is what the next one must find.
        let is_inbox = roles == ["inbox"];
        if !is_inbox {
            self.until_in_flight(roles).await;
        }
        self.pause(200..1_500).await;
        let connected = self.devices.tally().open;
        self.crew.kill(number);
        if is_inbox {
            self.until_in_flight(roles).await;
        }
        let in_flight = match roles {
            ["gateway"] => usize::try_from(connected).unwrap(),
            _ => self.in_flight(roles).await,
        };
        self.crew.join(roles);
        let name = if roles.is_empty() { "the whole process".to_owned() } else { roles.join("+") };
        assert!(in_flight > 0, "{name} had nothing in hand, so this kill proves nothing");
        self.note(format!("killed {name} with {in_flight} in hand"));
        self.check().await;
    }

    /// What roles have in hand: what would be lost if it were not on the log.
    async fn in_flight(&self, roles: &[&str]) -> usize {
        match roles {
            ["gateway"] => usize::try_from(self.devices.tally().open).unwrap(),
            ["inbox"] => evidence::not_folded(&self.world).await,
            ["courier"] => evidence::waiting(&self.world).await,
            _ => evidence::decided_but_not_committed(&self.world).await,
        }
    }

    async fn until_in_flight(&self, roles: &[&str]) {
        eventually(&format!("{roles:?} have something in hand"), async || (self.in_flight(roles).await > 0).then_some(())).await;
    }

    /// Nothing may be lost or twice, at any moment.
    pub(crate) async fn check(&self) {
        let ledger = self.ledger().await;
        assert!(ledger.wrong.is_empty(), "{}\n{ledger}", self.title());
    }

    async fn ledger(&self) -> Ledger {
        // First: what is said meanwhile is none of this ledger's.
        let said = self.load.said();
        let evidence = evidence::gather(&self.world, &self.devices, &self.letters).await;
        Ledger::judge(&said, &evidence)
    }

    /// No more is said, and all that was said has come to what it must come to.
    pub(crate) async fn rest(&mut self) -> Ledger {
        self.load.end().await;
        let deadline = Instant::now() + HANG;
        let mut was_wrong = false;
        loop {
            self.crew.tend();
            let ledger = self.ledger().await;
            // A store that is not there yet shows nothing as acknowledged; what is lost stays lost.
            let is_wrong = !ledger.wrong.is_empty();
            assert!(!(is_wrong && was_wrong), "{}\n{ledger}", self.title());
            was_wrong = is_wrong;
            if ledger.is_settled() {
                return ledger;
            }
            assert!(Instant::now() < deadline, "not settled after {HANG:?}\n{}\n{ledger}", self.title());
            if ledger.has_unheard() {
                self.retry().await;
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    /// Sends again what is pending, as an operator does for those whose last acknowledgement died with its node and whose next attempt is hours away.
    async fn retry(&mut self) {
        let Some(address) = self.nodes.drawn() else { return };
        let mut page = String::new();
        loop {
            let asked = request(address, Method::POST, &format!("/v1/retry-all{page}")).bearer_auth(token("ops", "admin"));
            // A node that is not ready yet is asked again in the next round.
            let Ok(answer) = asked.send().await.and_then(reqwest::Response::error_for_status) else { return };
            self.retries += 1;
            let Ok(answer) = answer.json::<serde_json::Value>().await else { return };
            let Some(next) = answer["nextPageToken"].as_str() else { return };
            page = format!("?pageToken={next}");
        }
    }

    /// More is said.
    pub(crate) fn go_on(&mut self) {
        self.load.go_on(self.world.clone(), self.weight);
    }

    /// What lies on `dlq` now counts also once the topic is gone.
    pub(crate) async fn keep_letters(&mut self) {
        self.letters.extend(evidence::buried(&self.world).await);
    }

    fn title(&self) -> String {
        let tally = self.devices.tally();
        format!(
            "ledger of: {}; TIDINGS_TEST_SEED={}, {:.0} s, {} kills, {} processes that ended by themselves\n  done: {}\n  devices: {} connections, \
             {} frames dropped because their id was known, {} further attempts, {} times not recovered, {} retries on demand",
            self.fault,
            self.seed,
            self.started.elapsed().as_secs_f64(),
            self.crew.kills,
            self.crew.restarts,
            self.notes.join(", "),
            tally.connections,
            tally.dropped,
            tally.redeliveries,
            tally.not_recovered,
            self.retries,
        )
    }

    /// Waits until all is settled, and prints the ledger.
    pub(crate) async fn settle(mut self) {
        let ledger = self.rest().await;
        println!("{}\n{ledger}", self.title());
        assert!(ledger.said() > 100, "so few events are no load");
        self.devices.end().await;
    }
}
