//! Deficit round robin: flows take turns of sixty-four requests.

use std::collections::{HashMap, VecDeque};

/// Requests of one turn. Each request costs one, so what is left of a turn is the whole deficit.
const QUANTUM: u32 = 64;

/// What waits, by flow. A flow is known only while something of it waits.
#[derive(Debug)]
pub struct Fair<T> {
    flows: HashMap<u64, VecDeque<T>>,
    /// Flows in the order of their turns; the first has so many requests of its turn left.
    round: VecDeque<u64>,
    left: u32,
    len: usize,
}

impl<T> Default for Fair<T> {
    fn default() -> Self {
        Self { flows: HashMap::new(), round: VecDeque::new(), left: QUANTUM, len: 0 }
    }
}

impl<T> Fair<T> {
    /// How much waits.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Lets something wait behind what its flow has waiting.
    pub fn push(&mut self, flow: u64, what: T) {
        let waiting = self.flows.entry(flow).or_default();
        if waiting.is_empty() {
            self.round.push_back(flow);
        }
        waiting.push_back(what);
        self.len += 1;
    }

    /// What goes next.
    pub fn peek(&self) -> Option<&T> {
        self.flows.get(self.round.front()?)?.front()
    }

    /// Takes what goes next.
    pub fn pop(&mut self) -> Option<T> {
        let flow = *self.round.front()?;
        let waiting = self.flows.get_mut(&flow)?;
        let what = waiting.pop_front()?;
        self.len -= 1;
        self.left -= 1;
        if waiting.is_empty() {
            self.flows.remove(&flow);
            self.round.pop_front();
            self.left = QUANTUM;
        } else if self.left == 0 {
            self.round.rotate_left(1);
            self.left = QUANTUM;
        }
        Some(what)
    }

    /// Takes everything, in no order.
    pub fn drain(&mut self) -> impl Iterator<Item = T> + use<T> {
        std::mem::take(self).flows.into_values().flatten()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_lone_request_waits_for_one_turn_of_each_other_flow_at_most() {
        let mut fair = Fair::default();
        for flow in 1..=3 {
            (0..10_000).for_each(|_| fair.push(flow, flow));
        }
        (0..10).for_each(|_| assert!(fair.pop().is_some()));
        fair.push(9, 9);
        let waited = std::iter::from_fn(|| fair.pop()).position(|flow| flow == 9).unwrap();
        assert!(waited <= 3 * QUANTUM as usize, "{waited}");
    }

    proptest! {
        #[test]
        fn of_flows_that_both_wait_none_gets_more_than_one_turn_ahead(
            sizes in prop::collection::vec(1u32..500, 2..6), taken in 0usize..2000,
        ) {
            let mut fair = Fair::default();
            for (flow, size) in sizes.iter().enumerate() {
                (0..*size).for_each(|_| fair.push(flow as u64, flow));
            }
            let mut got = vec![0u32; sizes.len()];
            for _ in 0..taken {
                let Some(flow) = fair.pop() else { break };
                got[flow] += 1;
                let waiting: Vec<_> = (0..sizes.len()).filter(|f| got[*f] < sizes[*f]).map(|f| got[f]).collect();
                if let (Some(most), Some(least)) = (waiting.iter().max(), waiting.iter().min()) {
                    prop_assert!(most - least <= QUANTUM);
                }
            }
        }

        #[test]
        fn nothing_is_lost_doubled_or_overtaken_within_its_flow(
            steps in prop::collection::vec(prop::option::of(0u64..5), 0..500),
        ) {
            let mut fair = Fair::default();
            let (mut pushed, mut next) = ([0u32; 5], [0u32; 5]);
            for step in steps {
                match step {
                    Some(flow) => {
                        fair.push(flow, (flow, pushed[flow as usize]));
                        pushed[flow as usize] += 1;
                    }
                    None => if let Some((flow, number)) = fair.pop() {
                        prop_assert_eq!(number, next[flow as usize]);
                        next[flow as usize] += 1;
                    },
                }
                let waiting: u32 = pushed.iter().sum::<u32>() - next.iter().sum::<u32>();
                prop_assert_eq!(fair.len(), waiting as usize);
                prop_assert_eq!(fair.peek().is_none(), waiting == 0);
            }
            prop_assert_eq!(fair.drain().count() as u32, pushed.iter().sum::<u32>() - next.iter().sum::<u32>());
        }
    }
}
