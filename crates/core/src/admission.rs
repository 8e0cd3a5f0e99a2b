//! Admission: what a host may still promise. Pure, so that it can be walked through by property tests.
//!
//! The agent is the authority: it reserves before it answers. The api's view is a hint.

use serde::{Deserialize, Serialize};

/// Amounts of the things a host has to give.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Amounts {
    /// Memory in MiB.
    pub memory_mib: u64,
    /// CPU time in thousandths of a CPU.
    pub cpu_milli: u64,
    /// Disk in MiB.
    pub disk_mib: u64,
    /// VMs.
    pub slots: u64,
}

/// The thing that a host has too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shortage {
    /// Memory.
    Memory,
    /// CPU time.
    Cpu,
    /// Disk.
    Disk,
    /// VM slots: addresses and process budget.
    Slots,
}

impl std::fmt::Display for Shortage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Disk => "disk",
            Self::Slots => "VM slots",
        })
    }
}

impl Amounts {
    /// The sum, saturating.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            memory_mib: self.memory_mib.saturating_add(other.memory_mib),
            cpu_milli: self.cpu_milli.saturating_add(other.cpu_milli),
            disk_mib: self.disk_mib.saturating_add(other.disk_mib),
            slots: self.slots.saturating_add(other.slots),
        }
    }

    /// What remains after `other` is taken; nothing below zero.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self {
            memory_mib: self.memory_mib.saturating_sub(other.memory_mib),
            cpu_milli: self.cpu_milli.saturating_sub(other.cpu_milli),
            disk_mib: self.disk_mib.saturating_sub(other.disk_mib),
            slots: self.slots.saturating_sub(other.slots),
        }
    }
}

/// Decides whether `demand` fits beside what is `reserved` of `capacity`.
///
/// # Errors
/// The first thing there is too little of.
pub fn admit(capacity: Amounts, reserved: Amounts, demand: Amounts) -> Result<(), Shortage> {
    let wanted = reserved.plus(demand);
    if wanted.memory_mib > capacity.memory_mib {
        Err(Shortage::Memory)
    } else if wanted.cpu_milli > capacity.cpu_milli {
        Err(Shortage::Cpu)
    } else if wanted.disk_mib > capacity.disk_mib {
        Err(Shortage::Disk)
    } else if wanted.slots > capacity.slots {
        Err(Shortage::Slots)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn amounts() -> impl Strategy<Value = Amounts> {
        (0..4096u64, 0..8000u64, 0..10_000u64, 0..8u64).prop_map(|(memory_mib, cpu_milli, disk_mib, slots)| Amounts {
            memory_mib,
            cpu_milli,
            disk_mib,
            slots,
        })
    }

    proptest! {
        /// Whatever is asked in whatever order, what was admitted never exceeds the capacity.
        #[test]
        fn nothing_is_promised_twice(capacity in amounts(), demands in proptest::collection::vec(amounts(), 0..40)) {
            let mut reserved = Amounts::default();
            for demand in demands {
                if admit(capacity, reserved, demand).is_ok() {
                    reserved = reserved.plus(demand);
                }
                prop_assert_eq!(reserved.minus(capacity), Amounts::default());
            }
        }

        /// What fits is not refused.
        #[test]
        fn the_whole_capacity_can_be_given(capacity in amounts()) {
            prop_assert!(admit(capacity, Amounts::default(), capacity).is_ok());
        }
    }

    #[test]
    fn the_shortage_is_named() {
        let capacity = Amounts { memory_mib: 1, cpu_milli: 1, disk_mib: 1, slots: 1 };
        let none = Amounts::default();
        assert_eq!(admit(capacity, none, Amounts { memory_mib: 2, ..none }), Err(Shortage::Memory));
        assert_eq!(admit(capacity, none, Amounts { cpu_milli: 2, ..none }), Err(Shortage::Cpu));
        assert_eq!(admit(capacity, none, Amounts { disk_mib: 2, ..none }), Err(Shortage::Disk));
        assert_eq!(admit(capacity, none, Amounts { slots: 2, ..none }), Err(Shortage::Slots));
        assert_eq!(admit(capacity, capacity, Amounts { disk_mib: u64::MAX, ..none }), Err(Shortage::Disk));
    }
}
