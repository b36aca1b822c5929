//! The close codes of docs/protocol.md, held against those that are used.

use tidings_core::protocol::close::{CloseCode, Comeback};

const DOCUMENT: &str = include_str!("../../docs/protocol.md");

#[test]
fn the_document_says_of_each_close_code_whether_to_come_back() {
    let table = DOCUMENT.split_once("## Close codes").unwrap().1.split_once("\n\n## ").unwrap().0;
    let rows = table.lines().filter_map(|line| {
        let mut cells = line.trim_matches('|').split(" | ").map(str::trim);
        let code = cells.next()?.parse::<u16>().ok()?;
        let said = match cells.last()? {
            "no" => Comeback::Never,
            "with a fresh token" => Comeback::FreshToken,
            said if said.starts_with("yes") || said.starts_with("after") => Comeback::WithBackoff,
            said => panic!("{code}: {said}"),
        };
        Some((code, said))
    });
    let mut used = CloseCode::ALL.map(|code| (code.code(), code.comes_back()));
    used.sort_by_key(|(code, _)| *code);
    assert_eq!(rows.collect::<Vec<_>>(), used);
}
