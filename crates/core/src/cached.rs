//! Cached VMs: what they are to be beside their specification, and how they started.

use serde::{Deserialize, Serialize};

/// What a cached VM is to be, beside its [`crate::spec::VmSpec`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CachedSpec {
    /// How far it is made ready before it is started.
    #[serde(default)]
    pub prewarm: Prewarm,
}

/// How far a cached VM is made ready before it is started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Prewarm {
    /// [`Self::Boot`] with a port and without a volume, else [`Self::Create`].
    #[default]
    Auto,
    /// It is booted until it is ready, and its memory and disk of that moment are what each start begins with.
    Boot,
    /// Its sandbox is made; no code of the image runs before the first start.
    Create,
    /// Nothing is made ready.
    None,
}

impl Prewarm {
    /// The word in requests and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Boot => "boot",
            Self::Create => "create",
            Self::None => "none",
        }
    }

    /// What is done for a VM with or without a port and a volume; never [`Self::Auto`].
    #[must_use]
    pub const fn resolve(self, has_port: bool, has_volume: bool) -> Self {
        match self {
            Self::Auto if has_port && !has_volume => Self::Boot,
            // A memory image knows files of the volume, which moves on without it.
            Self::Boot if has_volume => Self::Create,
            Self::Auto => Self::Create,
            Self::Boot | Self::Create | Self::None => self,
        }
    }
}

/// What a start began with. Which one it is depends on what was at hand, never what the VM finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StartTier {
    /// A prepared instance that waited, paused.
    Paused,
    /// The prepared memory and disk, restored.
    Restored,
    /// A sandbox that was made before, with nothing running in it.
    Created,
    /// Nothing.
    Cold,
}

impl StartTier {
    /// Every tier, the fastest first.
    pub const ALL: [Self; 4] = [Self::Paused, Self::Restored, Self::Created, Self::Cold];

    /// The word in answers and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::Restored => "restored",
            Self::Created => "created",
            Self::Cold => "cold",
        }
    }
}

/// How a VM started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Start {
    /// What it began with.
    pub tier: StartTier,
    /// From the host's hearing of the wish until its process went on.
    pub duration_ms: u64,
    /// Why a faster tier was tried and given up, a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
}

/// How a running VM sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sleep {
    /// It is paused where it is.
    Paused,
    /// Its memory is on the disk, and nothing of it runs.
    Spilled,
}

impl Sleep {
    /// Both, for tests and queries.
    pub const ALL: [Self; 2] = [Self::Paused, Self::Spilled];

    /// The word in answers, metrics and the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::Spilled => "spilled",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_memory_is_kept_beside_a_volume() {
        for prewarm in [Prewarm::Auto, Prewarm::Boot, Prewarm::Create, Prewarm::None] {
            for has_port in [false, true] {
                assert_ne!(prewarm.resolve(has_port, true), Prewarm::Boot);
                assert_ne!(prewarm.resolve(has_port, false), Prewarm::Auto);
            }
        }
        assert_eq!(Prewarm::Auto.resolve(true, false), Prewarm::Boot);
        assert_eq!(Prewarm::Auto.resolve(false, false), Prewarm::Create);
        assert_eq!(Prewarm::Boot.resolve(false, false), Prewarm::Boot);
    }

    #[test]
    fn words_are_those_of_answers() {
        for tier in StartTier::ALL {
            assert_eq!(serde_json::to_value(tier).expect("plain data"), tier.as_str());
        }
        for prewarm in [Prewarm::Auto, Prewarm::Boot, Prewarm::Create, Prewarm::None] {
            assert_eq!(serde_json::to_value(prewarm).expect("plain data"), prewarm.as_str());
        }
        for sleep in Sleep::ALL {
            assert_eq!(serde_json::to_value(sleep).expect("plain data"), sleep.as_str());
        }
    }
}
