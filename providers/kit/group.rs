//! Cuts a batch into requests, for vendors that take many targets at once.

use std::collections::HashMap;
use std::hash::Hash;

use crate::contract::Target;
use crate::kit::failure::Unsendable;

/// Targets that go into one request.
#[derive(Debug)]
pub struct Group<'a, K> {
    /// What they have in common: a region, a service.
    pub key: K,
    /// Each token once, in the order of the targets.
    pub tokens: Vec<&'a str>,
    /// Indices of all targets with one of these tokens: where a token stands twice, both get its outcome.
    pub members: Vec<usize>,
    /// The first target's parameter: it names the message, the receipt's token names the target.
    pub param: Option<&'a str>,
}

/// Groups of at most `max` tokens: a function of the targets alone, so that a repeat makes the same requests. What
/// `key_of` refuses is in none of them and handed to `refused`.
pub fn group<'a, K: Copy + Eq + Hash>(
    targets: &'a [Target],
    max: usize,
    key_of: impl Fn(&'a Target) -> Result<K, Unsendable>,
    mut refused: impl FnMut(usize, Unsendable),
) -> Vec<Group<'a, K>> {
    let mut groups: Vec<Group<'a, K>> = Vec::new();
    let mut places: HashMap<(K, &str), usize> = HashMap::new();
    let mut open: HashMap<K, usize> = HashMap::new();
    for (index, target) in targets.iter().enumerate() {
        let key = match key_of(target) {
            Ok(key) => key,
            Err(unsendable) => {
                refused(index, unsendable);
                continue;
            }
        };
        let token = target.address.token.expose();
        if let Some(place) = places.get(&(key, token)) {
            groups[*place].members.push(index);
            continue;
        }
        let place = match open.get(&key) {
            Some(place) if groups[*place].tokens.len() < max => *place,
            _ => {
                let param = target.receipt_param.as_deref();
                groups.push(Group { key, tokens: Vec::new(), members: Vec::new(), param });
                groups.len() - 1
            }
        };
        open.insert(key, place);
        places.insert((key, token), place);
        groups[place].tokens.push(token);
        groups[place].members.push(index);
    }
    groups
}
