//! The roles of a process: each service made from its own section and started in its stage.

use std::path::Path;

use anyhow::Context as _;
use tidings_core::record::meta::EpochRecord;
use tidings_core::rules::{Limits, RuleSet, shipped};

use super::services::{Services, Stage};
use super::{Assembly, Doorway};
use crate::cli::Role;
use crate::cli::folder::Folder;
use crate::gateway::{self, Gateway};
use crate::http::Door;
use crate::store::Store;
use crate::{courier, inbox, pipeline};

impl Assembly {
    /// Makes and starts the services of this process.
    pub(super) async fn start(&self, services: &mut Services, door: &Doorway, epoch: &EpochRecord) -> anyhow::Result<()> {
        if self.has(Role::Inbox) || self.has(Role::Courier) {
            let store = Store::open(&self.config.store).await.context("the store does not open")?;
            if self.has(Role::Inbox) {
                self.start_inbox(services, epoch, store.clone());
            }
            if self.has(Role::Courier) {
                self.start_courier(services, epoch, store);
            }
        }
        if self.has(Role::Pipeline) {
            self.start_pipeline(services)?;
        }
        if self.has(Role::Gateway) {
            self.start_gateway(services, door, epoch)?;
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
            rules: self.rules()?,
            node: self.node.clone(),
            clock: self.clock,
            metrics: self.metrics.clone(),
            role: self.health.role(Role::Pipeline.name()),
        };
        services.start("pipeline", Stage::Intake, |stop| pipeline::run(parts, stop));
        Ok(())
    }

    /// The rules of the configured folder, or the shipped ones.
    fn rules(&self) -> anyhow::Result<RuleSet> {
        let folder = Some(self.config.pipeline.rules.as_str()).filter(|folder| !folder.is_empty());
        let files = Folder::or_shipped(folder.map(Path::new), "toml", shipped()).context("`pipeline.rules`")?;
        let limits = Limits { output_bytes: self.config.pipeline.output_bytes.get(), ..Limits::default() };
        RuleSet::parse(&files.files(), limits).map_err(|problems| {
            let lines = problems.iter().map(ToString::to_string).collect::<Vec<_>>();
            anyhow::anyhow!("the rules have problems (`tidings check` shows them too):\n{}", lines.join("\n"))
        })
    }

    fn start_gateway(&self, services: &mut Services, door: &Doorway, epoch: &EpochRecord) -> anyhow::Result<()> {
        let gateway = Gateway::new(gateway::Parts {
            cluster: self.cluster.clone(),
            config: self.config.gateway.clone(),
            auth: self.config.auth.clone(),
            reconnect_spread: self.config.shutdown.reconnect_spread.0,
            epoch: epoch.clone(),
            node: self.node.clone(),
            clock: self.clock,
            metrics: self.metrics.clone(),
            role: self.health.role(Role::Gateway.name()),
        })
        .context("the gateway does not start")?;
        door.send_replace(self.routes(Door::Open(gateway.routes())));
        services.start("gateway", Stage::Door, |stop| async move { gateway.run(stop).await });
        Ok(())
    }

    fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }
}
