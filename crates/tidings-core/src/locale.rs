//! Locales: the language that somebody reads, and where to look when something is not said in it.
//!
//! Owns: a subset of BCP 47 (RFC 5646): language, script and region, in the case that RFC 5646, section 2.1.1 recommends. Refuses
//! variants and extensions. Neighbours: `notification` keeps texts by locale, `rules` reads them, `protocol` hears a client's.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

/// A language as people read it: `fr`, `fr-CA`, `zh-Hant-TW`. Two that differ only in case are the same.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Locale(Arc<str>);

/// A text that is no locale.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a locale is a language, perhaps with script and region, as `fr`, `fr-CA` or `zh-Hant-TW`; this is {text:?}")]
pub struct LocaleError {
    text: String,
}

impl Locale {
    /// The locale as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where to look for a text, the best first: `zh-Hant-TW`, `zh-Hant`, `zh` (RFC 4647, section 3.4).
    pub fn fallbacks(&self) -> impl Iterator<Item = &str> {
        std::iter::successors(Some(self.as_str()), |locale| locale.rsplit_once('-').map(|(shorter, _)| shorter))
    }
}

impl FromStr for Locale {
    type Err = LocaleError;

    fn from_str(text: &str) -> Result<Self, LocaleError> {
        normal(text).map(|locale| Self(locale.into())).ok_or_else(|| LocaleError { text: text.chars().take(40).collect() })
    }
}

fn normal(text: &str) -> Option<String> {
    let letters = |part: &&str| part.bytes().all(|byte| byte.is_ascii_alphabetic());
    let mut parts = text.split('-').peekable();
    let language = parts.next().filter(|part| (2..=8).contains(&part.len())).filter(letters)?;
    let mut locale = language.to_ascii_lowercase();
    if let Some(script) = parts.next_if(|part| part.len() == 4 && letters(part)) {
        let (first, rest) = script.split_at(1);
        locale.extend(["-", &first.to_ascii_uppercase(), &rest.to_ascii_lowercase()]);
    }
    if let Some(region) = parts.next() {
        let digits = region.len() == 3 && region.bytes().all(|byte| byte.is_ascii_digit());
        let country = region.len() == 2 && letters(&region);
        if !digits && !country {
            return None;
        }
        locale.extend(["-", &region.to_ascii_uppercase()]);
    }
    parts.next().is_none().then_some(locale)
}

impl fmt::Display for Locale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Locale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl Borrow<str> for Locale {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Locale {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_case_of_a_locale_does_not_matter() {
        for (written, normal) in [("FR-ca", "fr-CA"), ("ZH-hANT-tw", "zh-Hant-TW"), ("es-419", "es-419"), ("gsw", "gsw")] {
            assert_eq!(written.parse::<Locale>().unwrap().as_str(), normal);
        }
    }

    #[test]
    fn in_a_log_a_locale_stands_in_quotes() {
        assert_eq!(format!("{:?}", "fr-ca".parse::<Locale>().unwrap()), "\"fr-CA\"");
    }

    #[test]
    fn what_is_kept_by_locale_is_found_by_its_text() {
        let kept = std::collections::BTreeMap::from([("fr-CA".parse::<Locale>().unwrap(), 1)]);
        assert_eq!(kept.get("fr-CA"), Some(&1));
        assert_eq!(kept.get("fr"), None);
    }

    #[test]
    fn what_is_no_language_script_and_region_is_refused() {
        let long = "a".repeat(36);
        let texts =
            ["", "f", "fr_CA", "fr-", "-CA", "fr--CA", "fr-C", "fr-CA-x", "fr-CAN", "fr-CA-Latn", "ürk", "f\u{0}", "*", &long];
        for text in texts {
            assert!(text.parse::<Locale>().is_err(), "{text:?}");
        }
        insta::assert_snapshot!("fr_CA".parse::<Locale>().unwrap_err(),
            @r#"a locale is a language, perhaps with script and region, as `fr`, `fr-CA` or `zh-Hant-TW`; this is "fr_CA""#);
    }

    #[test]
    fn one_looks_in_the_same_language_before_one_looks_elsewhere() {
        let looked = |locale: &str| locale.parse::<Locale>().unwrap().fallbacks().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(looked("zh-Hant-TW"), ["zh-Hant-TW", "zh-Hant", "zh"]);
        assert_eq!(looked("fr-CA"), ["fr-CA", "fr"]);
        assert_eq!(looked("fr"), ["fr"]);
    }

    proptest! {
        #[test]
        fn a_locale_and_each_of_its_fallbacks_read_back_as_written(text in "[a-zA-Z]{2,8}(-[a-zA-Z]{4})?(-[a-zA-Z]{2}|-[0-9]{3})?") {
            let locale: Locale = text.parse().unwrap();
            prop_assert!(locale.as_str().eq_ignore_ascii_case(&text));
            for fallback in locale.fallbacks() {
                prop_assert_eq!(fallback.parse::<Locale>().unwrap().to_string(), fallback);
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text: String) {
            let _ = text.parse::<Locale>();
        }
    }
}
