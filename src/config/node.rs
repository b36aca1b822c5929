//! What this process is called.

use tidings_core::ids::{IdError, NodeId};

use super::NodeConfig;

impl NodeConfig {
    /// The configured name, else the host's and four drawn digits.
    ///
    /// # Errors
    /// If the configured name is none.
    pub fn name(&self) -> Result<NodeId, IdError> {
        if !self.id.is_empty() {
            return self.id.parse();
        }
        let host = gethostname::gethostname().to_string_lossy().chars().filter(|c| !c.is_control()).take(40).collect::<String>();
        format!("{}-{:04x}", host.trim(), rand::random::<u16>()).parse()
    }
}
