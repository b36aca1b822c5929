//! Finds the paths that one source file writes, by its tokens: so in `use` trees, types, expressions and patterns, but also
//! inside of macros, which a syntax tree leaves unparsed, and in attributes that name a path in a string.
//! It knows inline modules, because `super` depends on them. What a path means is the business of `arrows`.

use syn::buffer::Cursor;
use syn::parse::{ParseStream, Parser};

/// A path as it is written, with its place among the inline modules of the file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Written {
    /// Inline modules around it, the outermost first.
    pub(crate) inside: Vec<String>,
    /// Its names, `crate`, `super`, `self` and `*` among them.
    pub(crate) names: Vec<String>,
}

/// All paths of two names and more, and a `crate` or `super` alone, as in `use crate as root`. Errors are those of the lexer.
pub(crate) fn paths(source: &str) -> syn::Result<Vec<Written>> {
    let scan = |input: ParseStream<'_>| {
        input.step(|cursor| {
            let mut found = Found { inside: Vec::new(), all: Vec::new() };
            found.scan(*cursor);
            Ok((found.all, Cursor::empty()))
        })
    };
    scan.parse_str(source)
}

struct Found {
    inside: Vec<String>,
    all: Vec<Written>,
}

impl Found {
    fn scan(&mut self, mut cursor: Cursor<'_>) {
        while !cursor.eof() {
            cursor = if let Some((module, body, rest)) = inline_module(cursor) {
                self.inside.push(module);
                self.scan(body);
                self.inside.pop();
                rest
            } else if let Some(rest) = visibility(cursor) {
                rest
            } else if let Some((body, _, _, rest)) = cursor.any_group() {
                self.scan(body);
                rest
            } else if let Some((literal, rest)) = cursor.literal() {
                self.string(literal.to_string().trim_matches('"'));
                rest
            } else {
                self.path(cursor, Vec::new()).unwrap_or_else(|| skip(cursor))
            };
        }
    }

    /// Reads what follows a prefix (none at first) and returns where it ends; nothing if no path begins here.
    fn path<'a>(&mut self, cursor: Cursor<'a>, mut names: Vec<String>) -> Option<Cursor<'a>> {
        let (name, mut cursor) = name(cursor)?;
        if names.is_empty() && is_other_keyword(&name) {
            return Some(cursor);
        }
        names.push(name);
        while let Some(after) = double_colon(cursor) {
            if let Some((name, rest)) = self::name(after) {
                names.push(name);
                cursor = rest;
            } else if let Some((tree, _, _, rest)) = after.any_group() {
                self.tree(tree, &names);
                return Some(rest);
            } else {
                break;
            }
        }
        self.record(names);
        Some(cursor)
    }

    /// The braces of a `use` tree: each element continues the prefix.
    fn tree(&mut self, mut cursor: Cursor<'_>, prefix: &[String]) {
        while !cursor.eof() {
            cursor = self.path(cursor, prefix.to_vec()).unwrap_or(cursor);
            while !cursor.eof() && !matches!(cursor.punct(), Some((comma, _)) if comma.as_char() == ',') {
                cursor = skip(cursor);
            }
            cursor = skip(cursor);
        }
    }

    fn string(&mut self, text: &str) {
        let names: Vec<String> = text.split("::").map(str::to_owned).collect();
        let is_path = names.iter().all(|it| !it.is_empty() && it.chars().all(|c| c == '_' || c.is_ascii_alphanumeric()));
        if is_path && names.len() > 1 {
            self.record(names);
        }
    }

    fn record(&mut self, mut names: Vec<String>) {
        // `crate::{self as root}` is `crate`.
        if names.len() > 1 && names.last().is_some_and(|it| it == "self") {
            names.pop();
        }
        if names.len() > 1 || names[0] == "crate" || names[0] == "super" {
            self.all.push(Written { inside: self.inside.clone(), names });
        }
    }
}

/// A name of a path, or its star.
fn name(cursor: Cursor<'_>) -> Option<(String, Cursor<'_>)> {
    if let Some((ident, rest)) = cursor.ident() {
        return Some((ident.to_string().trim_start_matches("r#").to_owned(), rest));
    }
    let (star, rest) = cursor.punct()?;
    (star.as_char() == '*').then(|| ("*".to_owned(), rest))
}

/// In `use ::a::b` the path begins behind the keyword.
fn is_other_keyword(name: &str) -> bool {
    !["crate", "super", "self", "*"].contains(&name) && syn::parse_str::<syn::Ident>(name).is_err()
}

fn double_colon(cursor: Cursor<'_>) -> Option<Cursor<'_>> {
    let (first, rest) = cursor.punct()?;
    let (second, rest) = rest.punct()?;
    (first.as_char() == ':' && second.as_char() == ':').then_some(rest)
}

fn inline_module(cursor: Cursor<'_>) -> Option<(String, Cursor<'_>, Cursor<'_>)> {
    let (keyword, rest) = cursor.ident()?;
    let (name, rest) = rest.ident()?;
    let (body, _, _, rest) = rest.any_group()?;
    (keyword == "mod").then(|| (name.to_string(), body, rest))
}

/// `pub(crate)`, `pub(super)`, `pub(in a::b)`: they name who may look, and use nothing. Not `pub (A, B)`, a type.
fn visibility(cursor: Cursor<'_>) -> Option<Cursor<'_>> {
    let (keyword, rest) = cursor.ident()?;
    let (inside, _, _, rest) = rest.any_group()?;
    let (first, more) = inside.ident()?;
    (keyword == "pub" && (first == "in" || more.eof())).then_some(rest)
}

fn skip(cursor: Cursor<'_>) -> Cursor<'_> {
    cursor.token_tree().map_or_else(Cursor::empty, |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::paths;

    fn written(source: &str) -> Vec<String> {
        paths(source).expect("tokens").into_iter().map(|it| it.names.join("::")).collect()
    }

    #[test]
    fn a_use_tree_gives_one_path_a_leaf() {
        assert_eq!(
            written("use crate::{self, a, b::{C as D, e::*}, f as g}; use super as up; use x::y;"),
            ["crate", "crate::a", "crate::b::C", "crate::b::e::*", "crate::f", "super", "x::y"]
        );
    }

    #[test]
    fn types_expressions_and_patterns_are_read() {
        assert_eq!(
            written(
                "fn f(a: &a::B, b: Vec<c::D>) -> impl e::F { let g::H(x) = i::j::<k::L>(); x.y * z.w; m::N { a: ::o::P } as ::q::R }"
            ),
            ["a::B", "c::D", "e::F", "g::H", "i::j", "k::L", "m::N", "o::P", "q::R"]
        );
    }

    #[test]
    fn macros_and_strings_of_attributes_are_read() {
        assert_eq!(
            written(r##"select! { x = a::b() => $crate::c } #[serde(with = "d::e")] struct S; const T: &str = "not a::path";"##),
            ["a::b", "crate::c", "d::e"]
        );
    }

    #[test]
    fn visibility_is_not_a_use_but_a_tuple_after_pub_is() {
        assert_eq!(written("pub(crate) fn f() {} pub(in crate::a) mod b; pub(super) struct S(pub (c::D, E));"), ["c::D"]);
    }

    #[test]
    fn inline_modules_are_known() {
        let found = paths("mod a { mod b { use super::c; } use d::e; }").expect("tokens");
        assert_eq!(found.iter().map(|it| it.inside.join("::")).collect::<Vec<_>>(), ["a::b", "a"]);
    }
}
