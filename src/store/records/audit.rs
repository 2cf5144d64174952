//! The audit log: who changed what, each row bound to the one before it.

use aws_lc_rs::digest;
use serde_json::{Value, json};

/// A change, as the statements that make it tell it. Who and when are added by the store.
#[derive(Debug, Clone, PartialEq)]
pub struct Audit {
    /// The app; `None`: it concerns the installation.
    pub app: Option<i64>,
    /// What was done: `resource.verb`.
    pub action: &'static str,
    /// To what: its place in the API below the app, such as `channels/main`.
    pub object: String,
    /// What it was, of which a fingerprint is kept; without times, so that equal things look equal. No secrets.
    pub before: Option<Value>,
    /// What it is now, in the same way.
    pub after: Option<Value>,
    /// What is kept in clear: names and numbers, never secrets, contents or tokens.
    pub details: Option<Value>,
}

impl Audit {
    /// Something was done to an object.
    pub fn new(app: impl Into<Option<i64>>, action: &'static str, object: impl Into<String>) -> Self {
        let object = object.into();
        Self { app: app.into(), action, object, before: None, after: None, details: None }
    }

    /// What it was; nothing where it was not there.
    #[must_use]
    pub fn before(mut self, before: Option<Value>) -> Self {
        self.before = before;
        self
    }

    /// What it is now; nothing where it is gone.
    #[must_use]
    pub fn after(mut self, after: Option<Value>) -> Self {
        self.after = after;
        self
    }

    /// What is kept in clear.
    #[must_use]
    pub fn details(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }
}

/// A row of the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditRow {
    /// Its number: 1, 2, 3, … without a gap.
    pub seq: u64,
    /// Unix milliseconds.
    pub at: u64,
    /// The app; `None`: the installation's.
    pub app: Option<i64>,
    /// Who, as [`crate::audit::Who`] writes itself.
    pub actor: String,
    /// What was done.
    pub action: String,
    /// To what.
    pub object: String,
    /// Fingerprint of what it was.
    pub before: Option<String>,
    /// Fingerprint of what it is.
    pub after: Option<String>,
    /// JSON in clear.
    pub details: Option<String>,
    /// From where.
    pub ip: Option<String>,
    /// In which request.
    pub request_id: Option<String>,
    /// Hash of all this and of the row before.
    pub hash: Vec<u8>,
}

impl AuditRow {
    /// The hash that this row has after one with that hash. The first row comes after an empty one.
    pub fn hash_after(&self, before: &[u8]) -> Vec<u8> {
        // JSON tells its members apart whatever is in them, and is the same for every version of the program.
        let row = json!([
            self.seq,
            self.at,
            self.app,
            self.actor,
            self.action,
            self.object,
            self.before,
            self.after,
            self.details,
            self.ip,
            self.request_id,
        ]);
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(before);
        context.update(row.to_string().as_bytes());
        context.finish().as_ref().to_vec()
    }
}

/// Which rows to list; all conditions hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Of this app.
    pub app: Option<i64>,
    /// At or after this time, in Unix milliseconds.
    pub from: Option<u64>,
    /// Before this time.
    pub to: Option<u64>,
    /// This action.
    pub action: Option<String>,
    /// This object.
    pub object: Option<String>,
}

/// Walks the log from its first row and finds what was changed or is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditChain {
    /// The number of the last row.
    pub seq: u64,
    /// The hash of the last row.
    pub hash: Vec<u8>,
}

impl AuditChain {
    /// The next row; says what is wrong with it. After a finding it goes on from that row, so that each is told once.
    pub fn next(&mut self, row: &AuditRow) -> Option<String> {
        let wrong = if row.seq != self.seq + 1 {
            Some(format!("rows {} to {} are missing", self.seq + 1, row.seq - 1))
        } else if row.hash_after(&self.hash) != row.hash {
            Some(format!("row {} or the one before it was changed", row.seq))
        } else {
            None
        };
        *self = Self { seq: row.seq, hash: row.hash.clone() };
        wrong
    }

    /// After the last row: what is wrong with the end, which is also kept apart from the log.
    pub fn end(&self, head: Option<&Self>) -> Option<String> {
        match head {
            Some(head) if head.seq > self.seq => {
                Some(format!("rows {} to {} are missing at the end", self.seq + 1, head.seq))
            }
            Some(head) if head != self => Some("the last row is not the one that was written last".into()),
            None if self.seq > 0 => Some("what was written last is not known".into()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(n: u64) -> Vec<AuditRow> {
        let mut hash = Vec::new();
        let row =
            |seq| AuditRow { seq, at: 5, actor: "gateway".into(), object: "x".into(), ..AuditRow::default() };
        (1..=n)
            .map(|seq| {
                let mut row = row(seq);
                row.hash = row.hash_after(&hash);
                hash.clone_from(&row.hash);
                row
            })
            .collect()
    }

    fn findings(rows: &[AuditRow], head: Option<&AuditChain>) -> Vec<String> {
        let mut chain = AuditChain::default();
        let mut found: Vec<_> = rows.iter().filter_map(|row| chain.next(row)).collect();
        found.extend(chain.end(head));
        found
    }

    /// A72.
    #[test]
    fn a_log_in_which_a_row_was_changed_dropped_or_cut_off_says_so() {
        let rows = log(5);
        let head = AuditChain { seq: 5, hash: rows[4].hash.clone() };
        assert!(findings(&rows, Some(&head)).is_empty());
        assert!(findings(&[], None).is_empty());
        for (at, change) in [
            (0, (|row| row.actor = "key:x".into()) as fn(&mut AuditRow)),
            (2, |row| row.at += 1),
            (3, |row| row.before = Some(String::new())),
            (4, |row| row.details = Some("{}".into())),
        ] {
            let mut changed = rows.clone();
            change(&mut changed[at]);
            assert_eq!(findings(&changed, Some(&head)).len(), 1, "{at}");
        }
        let mut dropped = rows.clone();
        dropped.remove(2);
        assert_eq!(findings(&dropped, Some(&head)), ["rows 3 to 3 are missing"]);
        assert_eq!(findings(&rows[..3], Some(&head)), ["rows 4 to 5 are missing at the end"]);
        assert_eq!(findings(&rows, None).len(), 1);
        // Whoever rewrites a row and all after it has another head.
        let mut rewritten = log(5);
        rewritten[1].object = "y".into();
        let mut hash = rewritten[0].hash.clone();
        for row in &mut rewritten[1..] {
            row.hash = row.hash_after(&hash);
            hash.clone_from(&row.hash);
        }
        assert_eq!(findings(&rewritten, Some(&head)).len(), 1);
    }
}
