//! How commands for operators print what has been made of records. Nothing of a record reaches a terminal as it is.

use std::io::{self, Write};

use crate::replay::Tally;

/// The exit code if something that was meant is left: it was not sent, or would not be.
pub(super) const LEFT: u8 = 3;

/// Text of a stranger's, in one line: control characters are shown as escapes.
pub(super) fn safe(text: &str) -> String {
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}

/// What is wrong, with the line to go to in front, as editors and terminals follow it.
pub(super) fn wrong(line: Option<&str>, message: Option<&str>) -> String {
    let line = line.map(|line| format!("{}: ", safe(line))).unwrap_or_default();
    format!("{line}{}", message.map(safe).unwrap_or_default())
}

/// Places, and that there are more.
pub(super) fn named(ids: &[String], count: u64) -> String {
    let more = if count > ids.len() as u64 { ", …" } else { "" };
    format!("{}{more}", ids.join(", "))
}

/// What follows from records, and what does not; `buried` says in a word what becomes of those that would be buried.
pub(super) fn tally(out: &mut impl Write, tally: &Tally, buried: &str) -> io::Result<()> {
    for (what, counts) in [("rule", &tally.by_rule), ("type", &tally.by_type), ("audience", &tally.by_audience)] {
        counts.iter().try_for_each(|(name, count)| writeln!(out, "  {what} {}: {count}", safe(name)))?;
    }
    for (name, record) in [("first", &tally.first), ("last", &tally.last)] {
        if let Some(record) = record {
            let text = record.notification.message.as_deref().or(record.notification.title.as_deref()).unwrap_or_default();
            writeln!(out, "  {name}: {} in {}: {}", record.notification.id, safe(record.channel.as_str()), safe(text))?;
        }
    }
    tally.ignored.iter().try_for_each(|(reason, count)| writeln!(out, "ignored ({reason}): {count}"))?;
    for (class, still) in &tally.buried {
        let wrong = wrong(still.line.as_deref(), Some(&still.message));
        writeln!(out, "{buried} ({class}): {} ({}): {wrong}", still.count, named(&still.ids, still.count))?;
    }
    for (class, skipped) in &tally.skipped {
        let ids = named(&skipped.ids, skipped.count);
        writeln!(out, "skipped ({class}): {} ({ids}): {}", skipped.count, safe(&skipped.why))?;
    }
    Ok(())
}
