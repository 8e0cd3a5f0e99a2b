//! Turns: what is done to one VM by one at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use cakework_core::id::VmId;

/// Held while it is somebody's turn.
type Turn = tokio::sync::Mutex<()>;

/// The turns that somebody has or waits for.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<HashMap<VmId, Weak<Turn>>>);

impl Turns {
    /// The turn at a VM; lock it to have it.
    pub(crate) fn of(&self, id: &VmId) -> Arc<Turn> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = turns.get(id).and_then(Weak::upgrade) {
            return turn;
        }
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        turns.insert(id.clone(), Arc::downgrade(&turn));
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_vm_has_one_turn_and_none_stays() {
        let turns = Turns::default();
        let [one, other] = [(); 2].map(|()| VmId::mint(&mut rand::rng()));
        let first = turns.of(&one);
        assert!(Arc::ptr_eq(&first, &turns.of(&one)) && !Arc::ptr_eq(&first, &turns.of(&other)));
        drop(first);
        drop(turns.of(&other));
        assert_eq!(turns.0.lock().unwrap().len(), 1);
    }
}
