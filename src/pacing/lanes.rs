//! Two lanes: transactional before marketing, with a tenth for marketing.

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// A person waits for it.
    Transactional,
    /// Nobody does.
    Marketing,
}

/// Of so many turns one is for the lower lane while both wait.
const TURNS: u32 = 10;

/// Which lane goes next: the upper one, but each tenth turn the lower one, so that a flood of the upper never stops it.
#[derive(Debug, Clone, Default)]
pub struct Lanes {
    /// Turns of the upper lane that the lower one has waited through.
    waited: u32,
}

impl Lanes {
    /// The lane whose turn it is among those that wait.
    pub fn next(&self, transactional: bool, marketing: bool) -> Option<Lane> {
        match (transactional, marketing) {
            (false, false) => None,
            (true, true) if self.waited + 1 < TURNS => Some(Lane::Transactional),
            (true, false) => Some(Lane::Transactional),
            (_, true) => Some(Lane::Marketing),
        }
    }

    /// A lane took its turn. `marketing`: the lower lane waited.
    pub fn took(&mut self, lane: Lane, marketing: bool) {
        self.waited = if lane == Lane::Transactional && marketing { self.waited + 1 } else { 0 };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn while_both_wait_each_ten_turns_are_nine_and_one(start in 0usize..50) {
            let mut lanes = Lanes::default();
            let turns: Vec<_> = (0..100).map(|_| {
                let lane = lanes.next(true, true).unwrap();
                lanes.took(lane, true);
                lane
            }).collect();
            let lower = turns[start..start + 10].iter().filter(|lane| **lane == Lane::Marketing).count();
            prop_assert_eq!(lower, 1);
        }

        #[test]
        fn a_turn_is_never_lost_and_never_given_to_nobody(waiting in prop::collection::vec((any::<bool>(), any::<bool>()), 0..200)) {
            let mut lanes = Lanes::default();
            let mut missed = 0;
            for (upper, lower) in waiting {
                let lane = lanes.next(upper, lower);
                match lane {
                    Some(Lane::Transactional) => prop_assert!(upper),
                    Some(Lane::Marketing) => prop_assert!(lower),
                    None => prop_assert!(!upper && !lower),
                }
                if let Some(lane) = lane {
                    lanes.took(lane, lower);
                }
                missed = if lower && lane == Some(Lane::Transactional) { missed + 1 } else { 0 };
                prop_assert!(missed < TURNS);
            }
        }
    }
}
