//! A phone that loses its connection at any time, a store that commits out of order, and nothing lost.

use std::collections::BTreeSet;

use anypush_providers::contract::Class;
use proptest::prelude::*;

use super::*;

/// The inbox as the store keeps it.
#[derive(Default)]
struct Model {
    /// (position, visible, handed out, ended)
    rows: Vec<(i64, bool, bool, bool)>,
}

impl Model {
    fn read(&mut self, load: Load) -> Vec<InboxEntry> {
        let mut entries = Vec::new();
        for (pos, visible, handed, ended) in &mut self.rows {
            if *visible && !*ended && *pos > load.after && entries.len() < load.limit {
                *handed = true;
                entries.push(entry(*pos));
            }
        }
        entries
    }

    fn store(&mut self, mut due: Due) -> Vec<i64> {
        let mut now_ended = Vec::new();
        for ack in due.acks() {
            for (pos, _, handed, ended) in &mut self.rows {
                let named = match &ack {
                    Ack::UpTo(up_to) => *pos <= *up_to,
                    Ack::Messages(messages) => messages.contains(&Id(*pos)),
                };
                if named && *handed && !*ended {
                    *ended = true;
                    now_ended.push(*pos);
                }
            }
        }
        now_ended
    }
}

fn entry(pos: i64) -> InboxEntry {
    let class = Class::Transactional;
    let spec = String::new();
    InboxEntry { pos, message: Id(pos), class, spec, created_at: 0, expires_at: 0, variables: None }
}

#[derive(Debug, Clone)]
enum Op {
    /// A message comes in; a late one gets its position now and becomes visible at `Commit`.
    Add {
        late: bool,
    },
    Commit,
    /// The phone reads so many of the frames that are on their way.
    Receive(usize),
    AckUpTo(prop::sample::Index),
    AckOne(prop::sample::Index),
    Forge(i64),
    Reconnect,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => any::<bool>().prop_map(|late| Op::Add { late }),
        2 => Just(Op::Commit),
        6 => (1usize..8).prop_map(Op::Receive),
        3 => any::<prop::sample::Index>().prop_map(Op::AckUpTo),
        2 => any::<prop::sample::Index>().prop_map(Op::AckOne),
        1 => Just(Op::Reconnect),
    ];
    prop::collection::vec(op, 1..200)
}

#[derive(Default)]
struct World {
    model: Model,
    session: Session,
    on_the_way: Vec<i64>,
    here: Vec<i64>,
    ever: BTreeSet<i64>,
    ended: BTreeSet<i64>,
}

impl World {
    fn new() -> Self {
        Self { session: Session::new(300_000, 0), ..Self::default() }
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Add { late } => {
                self.model.rows.push((self.model.rows.len() as i64 + 1, !late, false, false));
                self.session.woken();
            }
            Op::Commit => {
                if let Some(row) = self.model.rows.iter_mut().rfind(|row| !row.1) {
                    row.1 = true;
                    self.session.woken();
                }
            }
            Op::Receive(n) => {
                let n = (*n).min(self.on_the_way.len());
                self.here.extend(self.on_the_way.drain(..n));
                self.ever.extend(&self.here);
            }
            Op::AckUpTo(which) if !self.here.is_empty() => self.session.ack_up_to(*which.get(&self.here)),
            Op::AckOne(which) if !self.here.is_empty() => self.session.ack(Id(*which.get(&self.here))),
            Op::AckUpTo(_) | Op::AckOne(_) => {}
            Op::Forge(pos) => {
                self.session.ack_up_to(*pos);
                self.session.ack(Id(*pos));
            }
            Op::Reconnect => {
                self.session = Session::new(300_000, 0);
                self.on_the_way.clear();
                self.here.clear();
            }
        }
        self.settle();
    }

    /// What the connection does between two events.
    fn settle(&mut self) {
        self.ended.extend(self.model.store(self.session.take_due()));
        while let Some(load) = self.session.wants() {
            assert!((1..=WINDOW).contains(&load.limit));
            let entries = self.model.read(load);
            let sent = self.session.loaded(load, entries, 0);
            self.on_the_way.extend(sent.iter().map(|e| e.pos));
            assert!(self.session.window.len() <= WINDOW, "the window is exceeded");
        }
    }
}

proptest! {
    #[test]
    fn no_message_is_lost_and_none_ends_that_the_phone_has_not(ops in ops()) {
        let mut world = World::new();
        for op in &ops {
            world.run(op);
            prop_assert!(world.ended.is_subset(&world.ever), "ended without the phone: {:?}", world.ended);
        }
        // In the end everything is visible and the phone acknowledges in order: all arrives, all ends.
        for row in &mut world.model.rows {
            row.1 = true;
        }
        world.session.woken();
        world.settle();
        world.run(&Op::Receive(WINDOW));
        while let Some(last) = world.here.last().copied() {
            world.session.ack_up_to(last);
            for pos in std::mem::take(&mut world.here) {
                world.session.ack(Id(pos));
            }
            world.settle();
            world.run(&Op::Receive(WINDOW));
        }
        let all: BTreeSet<i64> = world.model.rows.iter().map(|row| row.0).collect();
        prop_assert_eq!(&world.ever, &all);
        prop_assert_eq!(&world.ended, &all);
    }

    #[test]
    fn nothing_ends_that_was_not_handed_out(mut ops in ops(), forged in prop::collection::vec((0usize..200, 0i64..400), 0..20)) {
        for (at, pos) in forged {
            ops.insert(at.min(ops.len()), Op::Forge(pos));
        }
        let mut world = World::new();
        for op in &ops {
            world.run(op);
            prop_assert!(world.model.rows.iter().all(|(_, visible, handed, ended)| !ended || (*handed && *visible)));
        }
    }
}

#[test]
fn one_message_costs_one_read() {
    let mut world = World::new();
    world.settle();
    world.run(&Op::Add { late: false });
    world.run(&Op::Receive(1));
    world.session.ack_up_to(1);
    assert_eq!(world.session.wants(), None, "nothing has happened since the inbox was read whole");
}

#[test]
fn a_late_position_comes_when_the_window_is_empty_and_an_old_cursor_does_not_end_it() {
    let mut world = World::new();
    world.run(&Op::Add { late: true });
    world.run(&Op::Add { late: false });
    assert_eq!(world.on_the_way, [2]);
    world.run(&Op::Commit);
    assert_eq!(world.on_the_way, [2]);
    world.session.ack_up_to(2);
    world.settle();
    assert_eq!(world.on_the_way, [2, 1]);
    world.session.ack_up_to(2);
    world.settle();
    assert!(!world.model.rows[0].3, "the phone repeats an acknowledgement that it gave before it got 1");
    world.session.ack_up_to(1);
    world.settle();
    assert!(world.model.rows[0].3);
}

#[test]
fn the_window_stalls_at_twenty_and_moves_on() {
    let mut world = World::new();
    for _ in 0..50 {
        world.run(&Op::Add { late: false });
    }
    assert_eq!(world.on_the_way.len(), 20);
    world.session.ack_up_to(5);
    world.settle();
    assert_eq!(world.on_the_way, (1..=25).collect::<Vec<_>>());
}

#[test]
fn a_late_acknowledgement_brings_one_ping_and_then_the_end() {
    let mut session = Session::new(337_000, 0);
    assert_eq!(session.on_time(0), Verdict::Wait(337_000));
    session.loaded(Load { after: 0, limit: WINDOW }, vec![entry(1)], 1000);
    assert_eq!(session.on_time(1000), Verdict::Wait(31_000));
    assert!(!session.is_doubtful(30_999));
    assert_eq!(session.on_time(31_000), Verdict::Ping);
    assert!(session.is_doubtful(31_000));
    assert_eq!(session.on_time(31_000), Verdict::Wait(41_000));
    session.heard(32_000);
    assert_eq!(session.on_time(32_000), Verdict::Wait(61_000));
    assert_eq!(session.on_time(61_000), Verdict::Ping);
    assert_eq!(session.on_time(71_000), Verdict::Close);
    session.heard(71_000);
    session.ack(Id(1));
    assert!(!session.is_doubtful(71_000));
    assert_eq!(session.on_time(71_000 + 337_000), Verdict::Close, "silence alone ends it too");
}
