//! An app's own rules: which route a message takes that names none, by what it is about and whom it is for.
//!
//! The first rule that fits counts. A message carries the rules that may concern it as they were when it was accepted,
//! so every decision about it, hours later too, is made by the same ones.

use anypush_providers::contract::Class;
use serde::{Deserialize, Serialize};

use super::StepSpec;

/// A rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Its name in the app.
    pub name: String,
    /// Which messages and devices it is for.
    #[serde(default, rename = "match")]
    pub fits: Match,
    /// The route.
    pub steps: Vec<StepSpec>,
}

/// Conditions that all hold; an empty one always does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Match {
    /// Messages of this class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    /// Messages of one of these categories.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<String>,
    /// Devices of one of these platforms.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<String>,
    /// Devices of one of these manufacturers, in any case of letters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub manufacturers: Vec<String>,
    /// Devices in one of these countries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub countries: Vec<String>,
}

/// What rules ask of a device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traits {
    /// `android`, `ios`, …
    pub platform: Option<String>,
    /// Who made the phone.
    pub manufacturer: Option<String>,
    /// Two letters.
    pub country: Option<String>,
}

impl Match {
    /// Whether it asks anything of a device.
    pub fn asks_devices(&self) -> bool {
        !(self.platforms.is_empty() && self.manufacturers.is_empty() && self.countries.is_empty())
    }

    fn takes_message(&self, class: Class, category: Option<&str>) -> bool {
        self.class.is_none_or(|own| own == class)
            && (self.categories.is_empty()
                || category.is_some_and(|name| self.categories.iter().any(|own| own == name)))
    }

    fn takes_device(&self, traits: &Traits) -> bool {
        is_one_of(&self.platforms, traits.platform.as_deref())
            && is_one_of(&self.manufacturers, traits.manufacturer.as_deref())
            && is_one_of(&self.countries, traits.country.as_deref())
    }
}

fn is_one_of(words: &[String], own: Option<&str>) -> bool {
    words.is_empty()
        || own.is_some_and(|own| words.iter().any(|word| word.to_lowercase() == own.to_lowercase()))
}

/// Those of an app's rules that may concern a message: none behind one that every device fits.
pub fn concerning(rules: &[Rule], class: Class, category: Option<&str>) -> Vec<Rule> {
    let mut open = true;
    let may = |rule: &&Rule| {
        let taken = open && rule.fits.takes_message(class, category);
        open &= !taken || rule.fits.asks_devices();
        taken
    };
    rules.iter().filter(may).cloned().collect()
}

/// The first rule that a device fits.
pub(super) fn ruling<'a>(rules: &'a [Rule], traits: &Traits) -> Option<&'a Rule> {
    rules.iter().find(|rule| rule.fits.takes_device(traits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, fits: Match) -> Rule {
        Rule { name: name.into(), fits, steps: Vec::new() }
    }

    fn names(rules: &[Rule]) -> Vec<&str> {
        rules.iter().map(|rule| rule.name.as_str()).collect()
    }

    #[test]
    fn a_message_carries_only_rules_that_may_concern_it() {
        let rules = [
            rule("codes", Match { categories: vec!["login".into()], ..Match::default() }),
            rule("xiaomi", Match { manufacturers: vec!["Xiaomi".into()], ..Match::default() }),
            rule("ads", Match { class: Some(Class::Marketing), ..Match::default() }),
            rule("rest", Match::default()),
            rule("never", Match { countries: vec!["CN".into()], ..Match::default() }),
        ];
        assert_eq!(names(&concerning(&rules, Class::Marketing, None)), ["xiaomi", "ads"]);
        assert_eq!(names(&concerning(&rules, Class::Transactional, Some("login"))), ["codes"]);
        assert_eq!(names(&concerning(&rules, Class::Transactional, Some("news"))), ["xiaomi", "rest"]);
    }

    #[test]
    fn the_first_rule_that_a_device_fits_counts_and_one_that_says_nothing_of_itself_fits_none() {
        let rules = [
            rule(
                "chinese",
                Match { countries: vec!["CN".into()], platforms: vec!["android".into()], ..Match::default() },
            ),
            rule("xiaomi", Match { manufacturers: vec!["xiaomi".into()], ..Match::default() }),
        ];
        let traits = |platform: &str, manufacturer: &str, country: &str| Traits {
            platform: Some(platform.into()),
            manufacturer: Some(manufacturer.into()),
            country: Some(country.into()),
        };
        let name = |traits: &Traits| ruling(&rules, traits).map(|rule| rule.name.as_str());
        assert_eq!(name(&traits("android", "XIAOMI", "cn")), Some("chinese"));
        assert_eq!(name(&traits("ios", "Xiaomi", "CN")), Some("xiaomi"));
        assert_eq!(name(&traits("ios", "Apple", "CN")), None);
        assert_eq!(name(&Traits::default()), None);
    }
}
