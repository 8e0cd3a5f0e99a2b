//! How strongly a VM is separated from its host.

use serde::{Deserialize, Serialize};

/// The engine that keeps a stranger's code inside. Every VM says which one it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// A user-space kernel (gVisor, systrap platform) between the code and the host's kernel.
    Gvisor,
}

impl Isolation {
    /// The name in API answers and in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gvisor => "gvisor",
        }
    }
}

impl std::fmt::Display for Isolation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
