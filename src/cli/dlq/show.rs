//! How letters, lists and reports are printed for people.

use std::io::{self, Write};

use tidings_core::record::letter::Letter;

use crate::cli::shown::{self, named, safe, wrong};
use crate::cli::table::table;
use crate::replay::{Group, Listing, Report, ShownLetter, Tally, Trial, Wanted};

/// Of a value more than that is not printed; `export` has all of it.
const SHOWN_BYTES: usize = 4096;
const HEX_BYTES: usize = 16;

pub(super) fn listing(out: &mut impl Write, wanted: &Wanted, listing: &Listing) -> io::Result<()> {
    if !listing.groups.is_empty() {
        let names = wanted.by.iter().map(|by| by.name()).collect::<Vec<_>>();
        let mut rows = vec![header(&names)];
        rows.extend(listing.groups.iter().map(|group| row(&names, group)));
        table(out, &rows)?;
        writeln!(out)?;
    }
    for shown in &listing.newest {
        let ShownLetter { id, buried_at, original, reason, message, .. } = shown;
        let place = format!("{}[{}]@{}", safe(&original.topic), original.partition, original.offset);
        let redriven = if shown.redriven { " (redriven)" } else { "" };
        writeln!(out, "{id}  {buried_at}  {place}  {}{redriven}: {}", safe(reason), safe(message))?;
    }
    for (class, skipped) in &listing.broken {
        let ids = named(&skipped.ids, skipped.count);
        writeln!(out, "no letters ({class}): {} ({ids}): {}", skipped.count, safe(&skipped.why))?;
    }
    let open = listing.letters - listing.redriven;
    writeln!(out, "{} letters, {} redriven, {open} open", listing.letters, listing.redriven)
}

fn header(names: &[&str]) -> Vec<String> {
    let fixed = ["letters", "redriven", "redrivable", "last", "last at", "what is wrong with the last"];
    names.iter().copied().chain(fixed).map(str::to_owned).collect()
}

fn row(names: &[&str], group: &Group) -> Vec<String> {
    let of = names.iter().map(|name| group.of.get(*name).map(|value| safe(value)).unwrap_or_default());
    let counts = [group.letters, group.redriven, group.redrivable].map(|count| count.to_string());
    let wrong = wrong(group.line.as_deref(), Some(&group.message));
    of.chain(counts).chain([group.last_id.to_string(), group.last_at.to_string(), wrong]).collect()
}

pub(super) fn letter(out: &mut impl Write, letter: &Letter, shown: &ShownLetter, trial: &Trial) -> io::Result<()> {
    let (original, diagnosis) = (&letter.original, &letter.diagnosis);
    let at = original.timestamp.map(|at| format!(", {at}")).unwrap_or_default();
    let redriven = if shown.redriven { ", redriven since" } else { "" };
    writeln!(out, "letter    {} on dlq, buried {} by {}{redriven}", letter.id, letter.buried_at, safe(&letter.node))?;
    writeln!(out, "original  {}{at}", safe(&original.to_string()))?;
    let (class, stage, cause) = (safe(&diagnosis.class), safe(&diagnosis.stage), safe(&diagnosis.cause));
    writeln!(out, "error     {class} at {stage} ({cause}): {}", safe(&diagnosis.message))?;
    if let (Some(rule), Some(line)) = (&diagnosis.rule, &diagnosis.line) {
        writeln!(out, "rule      {}, {}", safe(rule), safe(line))?;
    }
    if let Some(truncated) = &letter.truncated {
        let (bytes, sha256) = (truncated.bytes.unwrap_or(0), truncated.sha256.as_deref().unwrap_or("unknown"));
        writeln!(out, "stub      the whole value had {bytes} bytes, SHA-256 {}", safe(sha256))?;
    }
    for (name, value) in &letter.headers {
        let value = value.as_deref().map_or_else(|| "(null)".to_owned(), |value| safe(&String::from_utf8_lossy(value)));
        writeln!(out, "header    {}: {value}", safe(name))?;
    }
    if letter.unread_headers > 0 {
        writeln!(out, "headers   {} more in front cannot be read: the name of one is not UTF-8", letter.unread_headers)?;
    }
    bytes(out, "key", letter.key.as_deref())?;
    bytes(out, "value", letter.value.as_deref())?;
    now(out, trial)
}

/// Bytes in hexadecimal digits with their characters beside, and once more as text.
fn bytes(out: &mut impl Write, name: &str, bytes: Option<&[u8]>) -> io::Result<()> {
    let Some(bytes) = bytes else { return writeln!(out, "{name:9} (none)") };
    writeln!(out, "{name:9} {} bytes", bytes.len())?;
    let shown = bytes.get(..bytes.len().min(SHOWN_BYTES)).unwrap_or_default();
    for (number, line) in shown.chunks(HEX_BYTES).enumerate() {
        let hex = line.iter().map(|byte| format!("{byte:02x} ")).collect::<String>();
        let text = line.iter().map(|byte| if matches!(byte, b' '..=b'~') { char::from(*byte) } else { '.' }).collect::<String>();
        writeln!(out, "  {:08x}  {hex:48} {text}", number * HEX_BYTES)?;
    }
    if bytes.len() > shown.len() {
        writeln!(out, "  … {} bytes more; `tidings dlq export` has all", bytes.len() - shown.len())?;
    }
    writeln!(out, "  as text: {}", safe(&String::from_utf8_lossy(shown)))
}

fn now(out: &mut impl Write, trial: &Trial) -> io::Result<()> {
    let reason = trial.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let wrong = wrong(trial.line.as_deref(), trial.message.as_deref());
    let colon = if wrong.is_empty() { "" } else { ": " };
    writeln!(out, "now       with rules {}: {}{reason}{colon}{wrong}", trial.rules, trial.verdict)?;
    for record in &trial.notifications {
        let text = |text: &Option<String>| text.as_deref().map(safe).unwrap_or_default();
        let (rule, channel, shown) = (safe(&record.rule), safe(record.channel.as_str()), &record.notification);
        writeln!(out, "  rule {rule} notifies {channel}: {}: {}", text(&shown.title), text(&shown.message))?;
    }
    Ok(())
}

pub(super) fn report(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let Report { rules, letters, tally, .. } = report;
    let Tally { notified, notifications, .. } = tally;
    let done = if report.executed { "sent" } else { "would send (nothing was written: this is a dry run)" };
    writeln!(out, "{letters} letters by rules {rules}; {} redriven before are left alone", report.redriven_before)?;
    writeln!(out, "{done}: {notifications} notifications of {notified} letters")?;
    if report.duplicates > 0 {
        writeln!(out, "of the same record as another one: {}", report.duplicates)?;
    }
    shown::tally(out, tally, "stays")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(print: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        print(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn bytes_are_shown_as_digits_and_as_text_and_never_reach_the_terminal_as_they_are() {
        let value = b"{\"a\":\"\x1b[2J\xff\"}";
        insta::assert_snapshot!(printed(|out| bytes(out, "value", Some(value))), @r#"
        value     13 bytes
          00000000  7b 22 61 22 3a 22 1b 5b 32 4a ff 22 7d           {"a":".[2J."}
          as text: {"a":"\u{1b}[2J�"}
        "#);
        assert_eq!(printed(|out| bytes(out, "key", None)), "key       (none)\n");
    }

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let rows = [["reason", "letters", "why"], ["not_json", "1", "a long one"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(printed(|out| table(out, &rows)), "reason    letters  why\nnot_json  1        a long one\n");
    }
}
