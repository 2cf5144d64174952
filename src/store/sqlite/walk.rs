//! An expression as streams of devices in order of number.
//!
//! Each leaf is one indexed range, read a few thousand devices at a time. Inner nodes hold no devices at all: they move
//! their streams forward to the next number that fits (intersection by leapfrog, union by the least, difference by
//! looking). So any audience is walked in order, in memory that depends on the expression alone.
//!
//! Every statement is one of the constants below; what a caller says is bound.

use std::collections::VecDeque;

use sqlx::Row as _;
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments};

use super::attrs::Bind;
use super::session::{Session, Sql, int, json};
use super::{places, rows};
use crate::delivery::expression::{Bound, Circle, Expression, Scalar, Test};
use crate::store::records::attributes::{is_version, key, stored_name};

/// Rows of a leaf's first and of its largest read. What is only looked into now and then reads little.
const CHUNK: (usize, usize) = (64, 4096);

/// Devices as one JSON array: see [`Session::array`].
macro_rules! devices {
    ($sql:literal) => {
        concat!("SELECT json_group_array(device) FROM (", $sql, ")")
    };
}

/// Everybody.
pub(super) const ALL: &str = devices!(
    "SELECT seq AS device FROM devices WHERE app = ?1 AND seq >= ?2 AND seq < ?3 ORDER BY seq LIMIT ?4"
);
/// Who has a tag.
pub(super) const TAG: &str = devices!(
    "SELECT device FROM device_tags
     WHERE app = ?1 AND tag = ?5 AND device >= ?2 AND device < ?3 ORDER BY device LIMIT ?4"
);
/// Who has an attribute.
pub(super) const EXISTS: &str = devices!(
    "SELECT device FROM device_attrs
     WHERE app = ?1 AND name = ?5 AND device >= ?2 AND device < ?3 ORDER BY device LIMIT ?4"
);
/// Whose attribute is this.
pub(super) const EQUALS: &str = devices!(
    "SELECT device FROM device_attrs INDEXED BY device_attrs_by_value
     WHERE app = ?1 AND name = ?5 AND value = ?6 AND device >= ?2 AND device < ?3 ORDER BY device LIMIT ?4"
);
/// Whose attribute lies between. In order of device, not of value: the plus signs keep the other index out of it.
pub(super) const BETWEEN: &str = devices!(
    "SELECT device FROM device_attrs
     WHERE app = ?1 AND name = ?5 AND device >= ?2 AND device < ?3
        AND (+value > ?6 OR (?7 AND +value = ?6)) AND (+value < ?8 OR (?9 AND +value = ?8))
     ORDER BY device LIMIT ?4"
);
/// Whose attribute begins so.
pub(super) const STARTS: &str = devices!(
    "SELECT device FROM device_attrs
     WHERE app = ?1 AND name = ?5 AND device >= ?2 AND device < ?3
        AND typeof(value) = 'text' AND substr(value, 1, length(?6)) = ?6
     ORDER BY device LIMIT ?4"
);
/// Who was last in a cell, and where.
pub(super) const CELL: &str = "SELECT device, lat, lon FROM device_places
     WHERE app = ?1 AND cell = ?5 AND device >= ?2 AND device < ?3 ORDER BY device LIMIT ?4";
/// Whose devices they are. A few thousand look-ups and a sort for each read: users are given, at most ten thousand.
pub(super) const USERS: &str = devices!(
    "SELECT d.seq AS device FROM (SELECT DISTINCT value FROM json_each(?5)) AS j CROSS JOIN devices AS d
     ON d.app = ?1 AND d.user_id = j.value AND d.seq >= ?2 AND d.seq < ?3 ORDER BY d.seq LIMIT ?4"
);

/// Devices of one indexed range.
#[derive(Debug)]
enum Range {
    All,
    Tag(String),
    Exists(String),
    Equals(String, Bind),
    Between(String, (Bind, bool), (Bind, bool)),
    Starts(String, String),
    Cell(i64, Circle),
    Users(String),
}

/// A range, read piece by piece.
#[derive(Debug)]
struct Leaf {
    range: Range,
    /// What was read and not passed yet.
    ahead: VecDeque<u64>,
    /// Where the next read begins.
    read_to: u64,
    /// How much it reads.
    chunk: usize,
    is_over: bool,
}

/// How leaves are put together; leaves by their place in the list.
#[derive(Debug)]
enum Node {
    Leaf(usize),
    All(Vec<Node>),
    Any(Vec<Node>),
    Without(Box<Node>, Box<Node>),
}

/// A leaf that must read on before the next device is known.
struct Hungry(usize);

/// A walk over the devices of an app that fit an expression.
#[derive(Debug)]
pub(super) struct Walk {
    app: i64,
    /// No device from here on.
    until: u64,
    leaves: Vec<Leaf>,
    root: Node,
}

impl Walk {
    /// A walk that begins at a device and ends before another.
    pub(super) fn new(app: i64, expression: &Expression, from: u64, until: u64) -> Self {
        let mut leaves = Leaves { from, all: Vec::new() };
        let root = leaves.node(expression);
        Self { app, until, leaves: leaves.all, root }
    }

    /// The first device that fits and is not before `at`, which never goes back.
    pub(super) async fn next(&mut self, session: &mut Session, at: u64) -> Sql<Option<u64>> {
        loop {
            match seek(&self.root, &mut self.leaves, at) {
                Ok(found) => return Ok(found),
                Err(Hungry(leaf)) => self.leaves[leaf].read(session, self.app, self.until).await?,
            }
        }
    }
}

/// Moves a node's streams forward. Called again after a leaf has read, it goes on where it was: what a leaf has passed is
/// nothing that the whole could still name.
fn seek(node: &Node, leaves: &mut [Leaf], at: u64) -> Result<Option<u64>, Hungry> {
    match node {
        Node::Leaf(index) => leaves[*index].seek(at, *index),
        Node::All(nodes) => {
            let mut at = at;
            'again: loop {
                for node in nodes {
                    match seek(node, leaves, at)? {
                        None => return Ok(None),
                        Some(found) if found > at => {
                            at = found;
                            continue 'again;
                        }
                        Some(_) => {}
                    }
                }
                return Ok(Some(at));
            }
        }
        Node::Any(nodes) => {
            let mut least = None;
            for node in nodes {
                let found = seek(node, leaves, at)?;
                least = [least, found].into_iter().flatten().min();
            }
            Ok(least)
        }
        Node::Without(base, other) => {
            let mut at = at;
            while let Some(found) = seek(base, leaves, at)? {
                if seek(other, leaves, found)? != Some(found) {
                    return Ok(Some(found));
                }
                at = found + 1;
            }
            Ok(None)
        }
    }
}

impl Leaf {
    /// The first device not before `at`.
    fn seek(&mut self, at: u64, index: usize) -> Result<Option<u64>, Hungry> {
        while self.ahead.front().is_some_and(|device| *device < at) {
            self.ahead.pop_front();
        }
        if let Some(device) = self.ahead.front() {
            return Ok(Some(*device));
        }
        self.read_to = self.read_to.max(at);
        if self.is_over { Ok(None) } else { Err(Hungry(index)) }
    }

    async fn read(&mut self, session: &mut Session, app: i64, until: u64) -> Sql<()> {
        let query = self.range.query();
        let query = query.bind(app).bind(int(self.read_to)).bind(int(until)).bind(self.chunk as i64);
        let query = self.range.bind(query);
        let (found, last) = if let Range::Cell(_, circle) = &self.range {
            let found = session.rows(query).await?;
            for row in &found {
                if circle.holds(row.try_get(1)?, row.try_get(2)?) {
                    self.ahead.push_back(rows::number(row, 0)?);
                }
            }
            (found.len(), found.last().map(|row| rows::number(row, 0)).transpose()?)
        } else {
            let found: Vec<u64> = session.array(query).await?;
            self.ahead.extend(&found);
            (found.len(), found.last().copied())
        };
        self.is_over = found < self.chunk;
        self.chunk = (self.chunk * 4).min(CHUNK.1);
        self.read_to = last.map_or(self.read_to, |device| device + 1);
        Ok(())
    }
}

type Ask<'q> = Query<'q, Sqlite, SqliteArguments>;

fn bound<'q>(query: Ask<'q>, value: &'q Bind) -> Ask<'q> {
    match value {
        Bind::Int(n) => query.bind(n),
        Bind::Real(n) => query.bind(n),
        Bind::Text(text) => query.bind(text),
        Bind::Bytes(bytes) => query.bind(bytes),
    }
}

impl Range {
    fn query(&self) -> Ask<'static> {
        sqlx::query(match self {
            Self::All => ALL,
            Self::Tag(_) => TAG,
            Self::Exists(_) => EXISTS,
            Self::Equals(..) => EQUALS,
            Self::Between(..) => BETWEEN,
            Self::Starts(..) => STARTS,
            Self::Cell(..) => CELL,
            Self::Users(_) => USERS,
        })
    }

    fn bind<'q>(&'q self, query: Ask<'q>) -> Ask<'q> {
        match self {
            Self::All => query,
            Self::Tag(text) | Self::Exists(text) | Self::Users(text) => query.bind(text),
            Self::Equals(name, value) => bound(query.bind(name), value),
            Self::Between(name, low, high) => {
                let query = bound(query.bind(name), &low.0).bind(low.1);
                bound(query, &high.0).bind(high.1)
            }
            Self::Starts(name, begin) => query.bind(name).bind(begin),
            Self::Cell(cell, _) => query.bind(cell),
        }
    }
}

/// The leaves of an expression, as it is taken apart.
struct Leaves {
    from: u64,
    all: Vec<Leaf>,
}

impl Leaves {
    fn leaf(&mut self, range: Range) -> Node {
        // A read of users is a sort of all of them, so it is worth its full length.
        let chunk = if matches!(range, Range::Users(_)) { CHUNK.1 } else { CHUNK.0 };
        let leaf = Leaf { range, ahead: VecDeque::new(), read_to: self.from, chunk, is_over: false };
        self.all.push(leaf);
        Node::Leaf(self.all.len() - 1)
    }

    fn node(&mut self, expression: &Expression) -> Node {
        match expression {
            Expression::All => self.leaf(Range::All),
            Expression::Tag(tag) => self.leaf(Range::Tag(tag.clone())),
            Expression::Attr { name, test } => self.test(name, test),
            Expression::Users(users) => self.leaf(Range::Users(json(users))),
            Expression::Near(circle) => {
                let cells = places::of_circle(circle).into_iter();
                Node::Any(cells.map(|cell| self.leaf(Range::Cell(cell, *circle))).collect())
            }
            Expression::Not(inner) => match &**inner {
                Expression::Not(same) => self.node(same),
                inner => {
                    let all = self.leaf(Range::All);
                    Node::Without(Box::new(all), Box::new(self.node(inner)))
                }
            },
            Expression::Or(any) => Node::Any(any.iter().map(|one| self.node(one)).collect()),
            Expression::And(all) => self.and(all),
        }
    }

    /// What must not be is taken away from what must be, rather than found first.
    fn and(&mut self, all: &[Expression]) -> Node {
        let (mut must, mut must_not) = (Vec::new(), Vec::new());
        for one in all {
            match one {
                Expression::All => {}
                Expression::Not(inner) => must_not.push(self.node(inner)),
                one => must.push(self.node(one)),
            }
        }
        if must.is_empty() {
            must.push(self.leaf(Range::All));
        }
        let base = Node::All(must);
        if must_not.is_empty() {
            return base;
        }
        Node::Without(Box::new(base), Box::new(Node::Any(must_not)))
    }

    fn test(&mut self, name: &str, test: &Test) -> Node {
        let stored = stored_name(name);
        match test {
            Test::Exists => self.leaf(Range::Exists(stored)),
            Test::OneOf(values) => {
                let equals = |value| Range::Equals(stored.clone(), Bind::from(key(name, value)));
                Node::Any(values.iter().map(equals).map(|range| self.leaf(range)).collect())
            }
            Test::StartsWith(begin) => self.leaf(Range::Starts(stored, begin.clone())),
            Test::Between { low, high } => {
                let (low, high) = ends(name, low.as_ref(), high.as_ref());
                self.leaf(Range::Between(stored, low, high))
            }
        }
    }
}

/// The ends of a range. Where one is open it ends with its type: numbers come before texts, texts before bytes.
fn ends(name: &str, low: Option<&Bound>, high: Option<&Bound>) -> ((Bind, bool), (Bind, bool)) {
    let given = |bound: &Bound| (Bind::from(key(name, &bound.value)), bound.inclusive);
    let some = low.or(high).map(|bound| &bound.value);
    let (least, most) = match some {
        Some(Scalar::Text(_)) if is_version(name) => (Bind::Bytes(Vec::new()), Bind::Bytes(vec![0xff])),
        Some(Scalar::Text(_)) => (Bind::Text(String::new()), Bind::Bytes(Vec::new())),
        Some(Scalar::Flag(_)) => (Bind::Bytes(Vec::new()), Bind::Bytes(vec![0xff])),
        Some(Scalar::Number(_)) | None => (Bind::Real(f64::NEG_INFINITY), Bind::Text(String::new())),
    };
    (low.map_or((least, true), given), high.map_or((most, false), given))
}
