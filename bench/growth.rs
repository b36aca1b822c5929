//! How costs grow with the work: connections, partitions, rules. One run each, beside its bare counterpart.

use crate::Size;
use crate::fanout;
use crate::pipeline::{self, Work};
use crate::report::{Budget, Pair, Report};
use crate::server::{Server, Setup};

/// Connections, and notifications a second to all of them.
const CONNECTIONS: [(usize, u64); 3] = [(1000, 20), (5000, 20), (15_000, 6)];
const PARTITIONS: [i32; 3] = [1, 4, 16];
/// Of which one is for the events of the load.
const RULES: [usize; 3] = [1, 10, 100];

pub(crate) async fn run(size: &Size, report: &mut Report) -> anyhow::Result<()> {
    for (connections, rate) in CONNECTIONS {
        let size = Size { connections, ..size.clone() };
        let ours = fanout::once(Server::tidings(&size.brokers, &Setup::gateway()).await?, &size, rate).await?;
        let bare = fanout::once(Server::bare_fanout(&size.brokers).await?, &size, rate).await?;
        let pair = Pair::of(&[ours], &[bare], |figures| figures.frame_cpu_us);
        report.add(&format!("CPU per frame with {connections} connections"), "µs", pair, Budget::None);
    }
    for partitions in PARTITIONS {
        let source = pipeline::backlog(size, partitions).await?;
        let pair = beside_copy(size, &source, Work { partitions, rules: 7, told: 2 }).await?;
        let what = format!("pipeline, CPU per event with {partitions} partitions, two notifications (bare: one copy)");
        report.add(&what, "µs", pair, Budget::None);
    }
    let source = pipeline::backlog(size, 4).await?;
    for rules in RULES {
        let pair = beside_copy(size, &source, Work { partitions: 4, rules, told: 1 }).await?;
        let what = format!("pipeline, CPU per event with {rules} rules, one notification (bare: one copy)");
        report.add(&what, "µs", pair, Budget::None);
    }
    Ok(())
}

/// What an event costs, and a copy of it on as many partitions.
async fn beside_copy(size: &Size, source: &str, work: Work) -> anyhow::Result<Pair> {
    let ours = pipeline::once(size, source, work).await?;
    let bare = pipeline::copy(size, source, work.partitions).await?;
    Ok(Pair::of(&[ours], &[bare], |figures| figures.event_cpu_us))
}
