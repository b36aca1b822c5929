//! The sweep: one look at every connection of the shard, instead of a timer each.
//!
//! Owns: heartbeats, silence, unfinished frames, stalled writes, expired tokens, answered pings, cursors whose time has come, and devices that are to be
//! told to be in use.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tidings_core::protocol::close::CloseCode;

use super::members::Member;
use super::{Shard, TURN};
use crate::config::GatewayConfig;
use crate::gateway::metrics::Limit;
use crate::gateway::moment::Moment;
use crate::gateway::outbox::Phase;

/// The limits in milliseconds.
struct Limits {
    heartbeat_ms: u64,
    idle_ms: u64,
    frame_ms: u64,
    write_ms: u64,
}

/// How often connections are looked at: four times within the shortest limit, at most every quarter of a second.
pub(super) fn interval_ms(config: &GatewayConfig) -> u64 {
    let limits = [config.heartbeat_interval, config.idle_timeout, config.frame_timeout, config.write_timeout];
    let shortest = limits.iter().map(|limit| limit.0).min().unwrap_or_default();
    millis(shortest / 4).clamp(5, 250)
}

fn millis(limit: Duration) -> u64 {
    u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)
}

impl Shard {
    /// Sweeps if it is time. Gives the milliseconds until it is next time to do something.
    pub(super) fn sweep_when_due(&mut self) -> u64 {
        let written = self.write_due_cursors();
        if self.now.ms >= self.sweep_at_ms {
            self.sweep();
            self.sweep_at_ms = self.now.ms + interval_ms(&self.shared.config);
        }
        wait_ms(written, self.sweep_at_ms.saturating_sub(self.now.ms))
    }

    /// Gives how many were written: at most one turn's.
    fn write_due_cursors(&mut self) -> usize {
        for written in 0..TURN {
            let Some((device, channel)) = self.devices.pop_due(self.now.ms) else { return written };
            self.write_cursor(device, channel);
        }
        TURN
    }

    fn sweep(&mut self) {
        let config = &self.shared.config;
        let limits = Limits {
            heartbeat_ms: millis(config.heartbeat_interval.0),
            idle_ms: millis(config.idle_timeout.0),
            frame_ms: millis(config.frame_timeout.0),
            write_ms: millis(config.write_timeout.0),
        };
        let mut answered = Vec::new();
        for (number, member) in self.members.iter_mut() {
            if let Some((code, limit)) = ended(member, &limits, self.now) {
                // One that is ending already is looked at until it has left.
                if member.outbox.phase() == Phase::Open {
                    limit.into_iter().for_each(|limit| self.shared.metrics.crossed(limit));
                    member.outbox.close(code, self.now.ms);
                }
                continue;
            }
            heartbeat(member, &limits, self.now.ms);
            if is_answered(member) {
                answered.push(number);
            }
        }
        self.acknowledge_answered(&answered);
        self.devices.renew_some(self.now.ms);
        if self.recoveries.is_over(self.now.ms) {
            self.recent.forget_missed();
        }
        self.withdraw_again();
    }
}

/// How long a shard with nothing else to do may sleep: not at all while a whole turn of cursors was due, as more may be.
fn wait_ms(written: usize, until_sweep_ms: u64) -> u64 {
    if written >= TURN { 0 } else { until_sweep_ms.max(1) }
}

/// Why a connection must end, if it must: the code, and the limit that was crossed, if it is one.
fn ended(member: &Member, limits: &Limits, now: Moment) -> Option<(CloseCode, Option<Limit>)> {
    let pulse = member.outbox.pulse();
    let passed = |since_ms: u64, limit_ms: u64| since_ms > 0 && now.ms.saturating_sub(since_ms) >= limit_ms;
    if member.ends_at.is_some_and(|ends_at| ends_at <= now.wall) {
        Some((CloseCode::InvalidToken, None))
    } else if passed(pulse.waiting_ms.load(Ordering::Relaxed), limits.write_ms) {
        Some((CloseCode::SlowConsumer, Some(Limit::WriteTimeout)))
    } else if passed(pulse.unfinished_ms.load(Ordering::Relaxed), limits.frame_ms) {
        Some((CloseCode::NothingHeard, Some(Limit::FrameTimeout)))
    } else if now.ms.saturating_sub(pulse.used_ms.load(Ordering::Relaxed)) >= limits.idle_ms {
        Some((CloseCode::NothingHeard, Some(Limit::IdleTimeout)))
    } else if is_silent(member, limits, now.ms) {
        Some((CloseCode::NothingHeard, Some(Limit::HeartbeatInterval)))
    } else {
        None
    }
}

/// Whether two pings in a row brought no byte.
fn is_silent(member: &Member, limits: &Limits, now_ms: u64) -> bool {
    let heartbeat = &member.heartbeat;
    let due = now_ms.saturating_sub(heartbeat.asked_ms) >= limits.heartbeat_ms;
    due && heartbeat.missed >= 1 && !was_heard(member)
}

fn was_heard(member: &Member) -> bool {
    member.outbox.pulse().heard_ms.load(Ordering::Relaxed) >= member.heartbeat.asked_ms
}

fn heartbeat(member: &mut Member, limits: &Limits, now_ms: u64) {
    if now_ms.saturating_sub(member.heartbeat.asked_ms) < limits.heartbeat_ms {
        return;
    }
    let heard = was_heard(member);
    member.ping(now_ms);
    member.heartbeat.missed = if heard { 0 } else { member.heartbeat.missed.saturating_add(1) };
    member.heartbeat.asked_ms = now_ms;
}

fn is_answered(member: &Member) -> bool {
    let answered = member.outbox.pulse().answered();
    member.heartbeat.probe.is_some_and(|probe| answered >= probe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_does_not_sleep_while_cursors_may_be_due() {
        assert_eq!(wait_ms(TURN, 250), 0);
        assert_eq!(wait_ms(TURN - 1, 250), 250);
        assert_eq!(wait_ms(0, 0), 1);
    }
}
