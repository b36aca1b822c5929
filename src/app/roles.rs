//! The roles of a process: each service made from its own section and started in its stage.

use anyhow::Context as _;
use tidings_core::record::meta::EpochRecord;

use super::services::{Services, Stage};
use super::{Assembly, Doorway};
use crate::cli::Role;
use crate::gateway::{self, Gateway};
use crate::http::Door;

impl Assembly {
    /// Makes and starts the services of this process.
    pub(super) async fn start(&self, services: &mut Services, door: &Doorway, epoch: &EpochRecord) -> anyhow::Result<()> {
        for role in [Role::Inbox, Role::Pipeline, Role::Courier, Role::Gateway] {
            if self.roles.contains(&role) {
                match role {
                    Role::Gateway => self.start_gateway(services, door, epoch)?,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn start_gateway(&self, services: &mut Services, door: &Doorway, epoch: &EpochRecord) -> anyhow::Result<()> {
        let gateway = Gateway::new(gateway::Parts {
            cluster: self.cluster.clone(),
            config: self.config.gateway.clone(),
            auth: self.config.auth.clone(),
            reconnect_spread: self.config.shutdown.reconnect_spread.0,
            epoch: epoch.clone(),
            clock: self.clock,
            metrics: self.metrics.clone(),
            role: self.health.role("gateway"),
        })
        .context("the gateway does not start")?;
        door.send_replace(self.routes(Door::Open(gateway.routes())));
        services.start("gateway", Stage::Door, |stop| async move { gateway.run(stop).await });
        Ok(())
    }
}
