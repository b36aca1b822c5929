//! The roles of a process: each service made from its own section and started in its stage.

use std::sync::Arc;

use anyhow::Context as _;
use futures_util::FutureExt as _;
use tidings_core::record::meta::EpochRecord;
use warp::Filter as _;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::services::{Services, Stage};
use super::{Assembly, Doorway};
use crate::auth::{Auth, Rotation};
use crate::cli::Role;
use crate::config::{Database, RulesSource};
use crate::gateway::{self, Desk, Gateway};
use crate::http::{self, Door, Guard, RestParts};
use crate::kafka::cluster::Cluster;
use crate::kafka::topics;
use crate::pipeline::rulebook::Rulebook;
use crate::store::{self, Store};
use crate::telemetry::Metrics;
use crate::{courier, inbox, pipeline};

/// The topics of one epoch, and what is made of them.
struct Generation {
    epoch: EpochRecord,
    cluster: Cluster,
    metrics: Metrics,
    /// What its inbox and its courier are called.
    names: [&'static str; 2],
    /// Where notifications are carried over to, if it is over.
    onward: Option<String>,
}

impl Assembly {
    /// Makes and starts the services of this process.
    pub(super) async fn start(&self, services: &mut Services, door: &Doorway, epoch: &EpochRecord) -> anyhow::Result<()> {
        let store = self.store().await?;
        if let Some(store) = &store {
            if store.is_served() {
                let (asked, role) = (store.clone(), self.health.role("store"));
                services.start("store probe", Stage::Watch, |stop| store::probe::run(asked, role, stop).map(anyhow::Ok));
            }
            let generation = self.generation(epoch);
            self.start_readers(services, &generation, store);
            if let Some(earlier) = self.earlier(epoch).await {
                self.start_readers(services, &earlier, store);
            }
        }
        if self.has(Role::Pipeline) {
            self.start_pipeline(services)?;
        }
        if let (Some(auth), Some(guard)) = (&self.auth, &self.guard) {
            let (keys, reloads) = (auth.clone(), self.reloads.clone());
            let rotation = Rotation::telling(&self.metrics, self.health.role(Role::Gateway.name()));
            services.start("rotation of keys", Stage::Watch, |stop| rotation.follow(keys, reloads, stop).map(anyhow::Ok));
            let gateway = self.gateway(epoch, auth.clone(), store.clone())?;
            let rest = self.rest(guard.clone(), gateway.desk(), (store, epoch))?;
            door.send_replace(self.routes(Door::Open(gateway.routes().or(rest).unify().boxed())));
            services.start("gateway", Stage::Door, |stop| async move { gateway.run(stop).await });
        }
        Ok(())
    }

    /// The topics in force.
    fn generation(&self, epoch: &EpochRecord) -> Generation {
        let names = [Role::Inbox, Role::Courier].map(Role::name);
        Generation { epoch: epoch.clone(), cluster: self.cluster.clone(), metrics: self.metrics.clone(), names, onward: None }
    }

    /// Those of the epoch before, as long as they are there: what was not delivered when it ended is carried over from them.
    async fn earlier(&self, epoch: &EpochRecord) -> Option<Generation> {
        let earlier = epoch.earlier.as_deref()?;
        let cluster = self.cluster.clone().of_earlier(earlier);
        // Whoever cannot be asked just now may have it: those who read it wait for it.
        if !topics::is_there(&cluster, &cluster.names().notifications()).await.unwrap_or(true) {
            return None;
        }
        tracing::info!(epoch = %earlier.epoch, "what is not delivered of an earlier epoch is carried over");
        let (names, onward) = (["earlier inbox", "earlier courier"], Some(self.cluster.names().notifications()));
        Some(Generation { epoch: earlier.clone(), cluster, metrics: self.metrics.within("earlier"), names, onward })
    }

    /// Those who read the topics of one epoch and work by the store.
    fn start_readers(&self, services: &mut Services, generation: &Generation, store: &Store) {
        if self.has(Role::Inbox) {
            self.start_inbox(services, generation, store.clone());
        }
        if self.has(Role::Courier) {
            self.start_courier(services, generation, store.clone());
        }
    }

    fn start_inbox(&self, services: &mut Services, generation: &Generation, store: Store) {
        let [name, _] = generation.names;
        let parts = inbox::Parts {
            cluster: generation.cluster.clone(),
            config: self.config.inbox.clone(),
            rungs: self.config.courier.ladder.clone(),
            epoch: generation.epoch.clone(),
            node: self.node.clone(),
            clock: self.clock,
            store,
            metrics: generation.metrics.clone(),
            traces: self.traces.clone(),
            role: self.health.role(name),
        };
        services.start(name, Stage::Fold, |stop| inbox::run(parts, stop));
    }

    fn start_courier(&self, services: &mut Services, generation: &Generation, store: Store) {
        let [_, name] = generation.names;
        let parts = courier::Parts {
            cluster: generation.cluster.clone(),
            config: self.config.courier.clone(),
            epoch: generation.epoch.clone(),
            onward: generation.onward.clone(),
            node: self.node.clone(),
            clock: self.clock,
            store,
            metrics: generation.metrics.clone(),
            traces: self.traces.clone(),
            role: self.health.role(name),
        };
        services.start(name, Stage::Intake, |stop| courier::run(parts, stop));
    }

    fn rules(&self) -> RulesSource {
        RulesSource::new(&self.config.pipeline, &self.config.courier)
    }

    fn start_pipeline(&self, services: &mut Services) -> anyhow::Result<()> {
        let parts = pipeline::Parts {
            cluster: self.cluster.clone(),
            config: self.config.pipeline.clone(),
            // The other half is for telling clients, and for writing their cursors.
            drain_timeout: self.config.shutdown.drain_timeout.0 / 2,
            registry: self.registry.clone(),
            rules: Rulebook::open(self.rules())?,
            reloads: self.reloads.clone(),
            node: self.node.clone(),
            clock: self.clock,
            metrics: self.metrics.clone(),
            traces: self.traces.clone(),
            role: self.health.role(Role::Pipeline.name()),
        };
        services.start("pipeline", Stage::Intake, |stop| pipeline::run(parts, stop));
        Ok(())
    }

    /// The store: of who folds it or decides by it, and of a gateway if another process of this machine has made its file, or it is
    /// a server.
    async fn store(&self) -> anyhow::Result<Option<Store>> {
        let needs_it = self.has(Role::Inbox) || self.has(Role::Courier);
        let finds_it = self.has(Role::Gateway)
            && match &self.config.store.url {
                Database::Sqlite(path) => path.exists(),
                Database::Postgres(_) => true,
            };
        if !needs_it && !finds_it {
            return Ok(None);
        }
        Store::open(&self.config.store).await.map(Some).context("the store does not open")
    }

    fn gateway(&self, epoch: &EpochRecord, auth: Arc<Auth>, store: Option<Store>) -> anyhow::Result<Gateway> {
        let parts = gateway::Parts {
            cluster: self.cluster.clone(),
            config: self.config.gateway.clone(),
            auth,
            reconnect_spread: self.config.shutdown.reconnect_spread.0,
            epoch: epoch.clone(),
            store,
            node: self.node.clone(),
            clock: self.clock,
            metrics: self.metrics.clone(),
            traces: self.traces.clone(),
            role: self.health.role(Role::Gateway.name()),
        };
        Gateway::new(parts).context("the gateway does not start")
    }

    fn rest(
        &self,
        guard: Guard,
        desk: Desk,
        (store, epoch): (Option<Store>, &EpochRecord),
    ) -> anyhow::Result<BoxedFilter<(Response,)>> {
        let plan = topics::Plan::new(&self.config.kafka, &self.config.pipeline, &self.config.courier, &self.config.inbox);
        let parts = RestParts {
            cluster: self.cluster.clone(),
            config: self.config.http.clone(),
            pipeline: self.config.pipeline.clone(),
            registry: self.registry.clone(),
            courier: self.config.courier.clone(),
            ids_kept: plan.ids_kept(),
            rules: self.rules(),
            guard,
            desk,
            store,
            epoch: epoch.clone(),
            clock: self.clock,
            traces: self.traces.clone(),
            metrics: self.metrics.clone(),
        };
        http::rest(parts).context("REST does not start")
    }

    fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }
}
