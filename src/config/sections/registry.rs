//! The section `[registry]`.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};
use tidings_core::time::Delay;

use super::HIDDEN;

/// `[registry]`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "see default.toml")]
pub struct RegistryConfig {
    pub urls: Vec<String>,
    pub user: String,
    pub password: String,
    pub password_file: String,
    pub token: String,
    pub token_file: String,
    pub ca: String,
    pub connect_timeout: Delay,
    pub request_timeout: Delay,
    pub unknown_wait: Delay,
    pub failure_retention: Delay,
    pub schemas: NonZeroUsize,
    pub kept_bytes: NonZeroUsize,
    pub schema_bytes: NonZeroUsize,
}

impl std::fmt::Debug for RegistryConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryConfig").field("urls", &self.urls).field("password", &HIDDEN).finish_non_exhaustive()
    }
}

impl RegistryConfig {
    pub(in crate::config) fn hide(&mut self) {
        [&mut self.password, &mut self.token]
            .into_iter()
            .filter(|secret| !secret.is_empty())
            .for_each(|secret| HIDDEN.clone_into(secret));
    }
}

/// The URL of a registry, in the configuration or as an argument.
///
/// # Errors
/// If it is none, or says more than where the registry is.
pub fn registry_url(text: &str) -> Result<String, String> {
    let place = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let is_fine = |place: &str| !place.is_empty() && !place.starts_with('/') && !place.contains(['@', '?', '#', ' ']);
    if !place.is_some_and(is_fine) {
        return Err("must be an address such as `https://registry.example.com`, without user, query and fragment".to_owned());
    }
    Ok(text.to_owned())
}
