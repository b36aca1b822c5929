//! What the machine was doing meanwhile, and the arithmetic of figures.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::Context as _;

/// Jiffies of all cores since boot.
pub(crate) struct Machine {
    total: u64,
    idle: u64,
    stolen: u64,
}

impl Machine {
    /// The counters now (`/proc/stat`, see proc(5)).
    pub(crate) fn look() -> anyhow::Result<Self> {
        let stat = std::fs::read_to_string("/proc/stat")?;
        let cpu = stat.lines().next().context("/proc/stat is empty")?;
        let jiffies = cpu.split_whitespace().skip(1).map(str::parse).collect::<Result<Vec<u64>, _>>()?;
        let of = |index: usize| jiffies.get(index).copied().unwrap_or(0);
        Ok(Self { total: jiffies.iter().take(8).sum(), idle: of(3) + of(4), stolen: of(7) })
    }

    /// Waits until nothing is left to do of what was begun before: nine tenths of a second idle.
    pub(crate) async fn calm(limit: Duration) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            let before = Self::look()?;
            tokio::time::sleep(Duration::from_secs(1)).await;
            let now = Self::look()?;
            if (now.idle - before.idle) * 10 >= (now.total - before.total) * 9 {
                return Ok(());
            }
            anyhow::ensure!(
                start.elapsed() < limit,
                "the machine does not come to rest within {limit:?}; something else runs on it"
            );
        }
    }

    /// How much was stolen since, in words.
    pub(crate) fn compare(&self) -> anyhow::Result<String> {
        let now = Self::look()?;
        let percent = 100.0 * (now.stolen - self.stolen) as f64 / (now.total - self.total).max(1) as f64;
        let verdict = if percent > 5.0 { "above 5 %: these figures are void" } else { "fine" };
        Ok(format!("CPU time stolen by neighbours: {percent:.1} % ({verdict})"))
    }
}

/// The middle of some figures.
pub(crate) fn median(figures: Vec<f64>) -> f64 {
    part(figures, 0.5)
}

/// The figure below which that part of the figures lies.
pub(crate) fn part(mut figures: Vec<f64>, part: f64) -> f64 {
    figures.sort_by(f64::total_cmp);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a length")]
    let index = (figures.len() as f64 * part) as usize;
    figures.get(index.min(figures.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

/// Microseconds since this process first asked.
pub(crate) fn now_us() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_micros()).unwrap_or(u64::MAX)
}
