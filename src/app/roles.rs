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
use crate::config::Database;
use crate::gateway::{self, Desk, Gateway};
use crate::http::{self, Door, Guard, RestParts};
use crate::pipeline::rulebook::Rulebook;
use crate::store::Store;
use crate::{courier, inbox, pipeline};

impl Assembly {
    /// Makes and starts the services of this process.
    pub(super) async fn start(&self, services: &mut Services, door: &Doorway, epoch: &EpochRecord) -> anyhow::Result<()> {
        let store = self.store().await?;
        if let Some(store) = &store {
            if self.has(Role::Inbox) {
                self.start_inbox(services, epoch, store.clone());
            }
            if self.has(Role::Courier) {
                self.start_courier(services, epoch, store.clone());
            }
        }
        if self.has(Role::Pipeline) {
            self.start_pipeline(services)?;
        }
        if let (Some(auth), Some(guard)) = (&self.auth, &self.guard) {
            let (keys, reloads) = (auth.clone(), self.reloads.clone());
            let rotation = Rotation::telling(&self.metrics, self.health.role(Role::Gateway.name()));
            services.start("rotation of keys", Stage::Watch, |stop| rotation.follow(keys, reloads, stop).map(anyhow::Ok));
            let gateway = self.gateway(epoch, auth.clone(), store)?;
            let rest = self.rest(guard.clone(), gateway.desk())?;
            door.send_replace(self.routes(Door::Open(gateway.routes().or(rest).unify().boxed())));
            services.start("gateway", Stage::Door, |stop| async move { gateway.run(stop).await });
        }
        Ok(())
    }

    fn start_inbox(&self, services: &mut Services, epoch: &EpochRecord, store: Store) {
        let parts = inbox::Parts {
            cluster: self.cluster.clone(),
            config: self.config.inbox.clone(),
            epoch: epoch.clone(),
            node: self.node.clone(),
            clock: self.clock,
            store,
            metrics: self.metrics.clone(),
            traces: self.traces.clone(),
            role: self.health.role(Role::Inbox.name()),
        };
        services.start("inbox", Stage::Fold, |stop| inbox::run(parts, stop));
    }

    fn start_courier(&self, services: &mut Services, epoch: &EpochRecord, store: Store) {
        let parts = courier::Parts {
            cluster: self.cluster.clone(),
            config: self.config.courier.clone(),
            epoch: epoch.clone(),
            node: self.node.clone(),
            clock: self.clock,
            store,
            metrics: self.metrics.clone(),
            traces: self.traces.clone(),
            role: self.health.role(Role::Courier.name()),
        };
        services.start("courier", Stage::Intake, |stop| courier::run(parts, stop));
    }

    fn start_pipeline(&self, services: &mut Services) -> anyhow::Result<()> {
        let parts = pipeline::Parts {
            cluster: self.cluster.clone(),
            config: self.config.pipeline.clone(),
            // The other half is for telling clients, and for writing their cursors.
            drain_timeout: self.config.shutdown.drain_timeout.0 / 2,
            rules: Rulebook::open(&self.config.pipeline)?,
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

    fn rest(&self, guard: Guard, desk: Desk) -> anyhow::Result<BoxedFilter<(Response,)>> {
        let parts = RestParts {
            cluster: self.cluster.clone(),
            config: self.config.http.clone(),
            guard,
            desk,
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
