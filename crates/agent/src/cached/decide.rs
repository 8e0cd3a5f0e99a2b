//! What a VM that does not run is made ready by, and what its start begins with. Pure.

use cakework_core::cached::{Prewarm, StartTier};

use super::pool::{Room, Waits};

/// Preparations that may fail one after the other: then the VM is not prepared until it has run again.
const UNPREPARED_MAX: u32 = 3;

/// What there is.
#[derive(Debug, Clone, Copy)]
pub struct Have {
    /// How far it is to be made ready; never [`Prewarm::Auto`].
    pub prewarm: Prewarm,
    /// Its prepared state can be used.
    pub prepared: bool,
    /// Preparations that failed, one after the other.
    pub unprepared: u32,
    /// A sandbox waits.
    pub waits: Option<Waits>,
    /// What there is room for.
    pub room: Room,
}

/// What is done next, in the background.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing: a start begins with what there is.
    Rest,
    /// It is booted, and its memory and disk are kept.
    Prepare,
    /// Its memory is restored into a sandbox that then waits, paused.
    Restore,
    /// A sandbox is made that then waits for its memory to be restored.
    Blank,
    /// A sandbox is made that then waits for its process to be started.
    Create,
}

/// The next step.
pub const fn next(have: Have) -> Step {
    if have.waits.is_some() {
        return Step::Rest;
    }
    match (have.prewarm, have.prepared, have.room) {
        (Prewarm::None, _, _) => Step::Rest,
        (Prewarm::Boot | Prewarm::Auto, false, _) if have.unprepared < UNPREPARED_MAX => Step::Prepare,
        (_, _, Room::None) => Step::Rest,
        (Prewarm::Boot | Prewarm::Auto, true, Room::Memory) => Step::Restore,
        (Prewarm::Boot | Prewarm::Auto, true, Room::Sandbox) => Step::Blank,
        (Prewarm::Create | Prewarm::Boot | Prewarm::Auto, _, _) => Step::Create,
    }
}

/// What a start tries, the fastest first. The last one needs nothing.
pub fn tiers(have: Have) -> Vec<StartTier> {
    let at_hand = |tier: &StartTier| match tier {
        StartTier::Paused => have.waits == Some(Waits::Paused),
        StartTier::Restored => have.prepared,
        StartTier::Created => have.waits == Some(Waits::Created),
        StartTier::Cold => true,
    };
    StartTier::ALL.into_iter().filter(at_hand).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HAVE: Have = Have { prewarm: Prewarm::Boot, prepared: false, unprepared: 0, waits: None, room: Room::Memory };

    #[test]
    fn a_vm_is_prepared_then_made_ready_then_left_alone() {
        assert_eq!(next(HAVE), Step::Prepare);
        assert_eq!(next(Have { prepared: true, ..HAVE }), Step::Restore);
        assert_eq!(next(Have { prepared: true, waits: Some(Waits::Paused), ..HAVE }), Step::Rest);
        assert_eq!(next(Have { prepared: true, room: Room::Sandbox, ..HAVE }), Step::Blank);
        assert_eq!(next(Have { prepared: true, waits: Some(Waits::Blank), room: Room::Sandbox, ..HAVE }), Step::Rest);
        assert_eq!(next(Have { prepared: true, room: Room::None, ..HAVE }), Step::Rest);
        assert_eq!(next(Have { room: Room::None, ..HAVE }), Step::Prepare, "that takes no lasting memory");
        assert_eq!(next(Have { unprepared: UNPREPARED_MAX, ..HAVE }), Step::Create);
        let create = Have { prewarm: Prewarm::Create, ..HAVE };
        assert_eq!(next(create), Step::Create);
        assert_eq!(next(Have { room: Room::None, ..create }), Step::Rest);
        assert_eq!(next(Have { prewarm: Prewarm::None, ..HAVE }), Step::Rest);
    }

    #[test]
    fn each_start_ends_with_what_always_works() {
        use StartTier::{Cold, Created, Paused, Restored};
        assert_eq!(tiers(HAVE), [Cold]);
        assert_eq!(tiers(Have { waits: Some(Waits::Created), ..HAVE }), [Created, Cold]);
        assert_eq!(tiers(Have { prepared: true, ..HAVE }), [Restored, Cold]);
        assert_eq!(tiers(Have { prepared: true, waits: Some(Waits::Blank), ..HAVE }), [Restored, Cold]);
        assert_eq!(tiers(Have { prepared: true, waits: Some(Waits::Paused), ..HAVE }), [Paused, Restored, Cold]);
    }
}
