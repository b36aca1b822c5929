//! What the machine was doing meanwhile: time stolen by neighbours makes figures void.

use anyhow::Context as _;

/// Jiffies of all cores since boot.
pub(crate) struct Machine {
    total: u64,
    stolen: u64,
}

impl Machine {
    /// The counters now (`/proc/stat`, see proc(5)).
    pub(crate) fn look() -> anyhow::Result<Self> {
        let stat = std::fs::read_to_string("/proc/stat")?;
        let cpu = stat.lines().next().context("/proc/stat is empty")?;
        let jiffies = cpu.split_whitespace().skip(1).map(str::parse).collect::<Result<Vec<u64>, _>>()?;
        Ok(Self { total: jiffies.iter().take(8).sum(), stolen: jiffies.get(7).copied().unwrap_or(0) })
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
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
