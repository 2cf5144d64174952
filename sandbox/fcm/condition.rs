//! The grammar of conditions: `'a' in topics && ('b' in topics || !('c' in topics))`.

use super::validate::is_name;

/// Topics that one condition may name.
const MAX_TOPICS: usize = 5;
/// Parentheses may nest so deep; the text is from outside and the parser is recursive.
const MAX_DEPTH: usize = 20;

/// Says what is wrong with a condition.
pub(super) fn check(text: &str) -> Result<(), String> {
    let mut parser = Parser { rest: text, topics: 0 };
    parser.expression(0)?;
    parser.skip_space();
    if !parser.rest.is_empty() {
        return Err(format!("Invalid condition expression provided: unexpected '{}'", parser.rest));
    }
    if parser.topics > MAX_TOPICS {
        return Err(format!("Invalid condition expression provided: more than {MAX_TOPICS} topics"));
    }
    Ok(())
}

struct Parser<'a> {
    rest: &'a str,
    topics: usize,
}

impl Parser<'_> {
    fn expression(&mut self, depth: usize) -> Result<(), String> {
        self.term(depth)?;
        while self.take("&&") || self.take("||") {
            self.term(depth)?;
        }
        Ok(())
    }

    fn term(&mut self, depth: usize) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err("Invalid condition expression provided: nested too deep".to_owned());
        }
        if self.take("!") {
            return self.term(depth + 1);
        }
        if self.take("(") {
            self.expression(depth + 1)?;
            return self.expect(")");
        }
        self.expect("'")?;
        let Some((topic, rest)) = self.rest.split_once('\'') else {
            return Err("Invalid condition expression provided: a quote is missing".to_owned());
        };
        if !is_name(topic, 900) {
            return Err(format!("Invalid condition expression provided: invalid topic '{topic}'"));
        }
        self.rest = rest;
        self.topics += 1;
        self.expect("in")?;
        self.expect("topics")
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, word: &str) -> bool {
        self.skip_space();
        match self.rest.strip_prefix(word) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, word: &str) -> Result<(), String> {
        if self.take(word) {
            return Ok(());
        }
        Err(format!("Invalid condition expression provided: expected {word} before '{}'", self.rest))
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn a_condition_names_up_to_five_topics() {
        let topics = |n: usize| (0..n).map(|i| format!("'t{i}' in topics")).collect::<Vec<_>>().join(" || ");
        assert!(check("'a' in topics").is_ok());
        assert!(check("'a' in topics && ('b' in topics || !('c' in topics))").is_ok());
        assert!(check(&topics(5)).is_ok());
        assert!(check(&topics(6)).is_err());
        for wrong in
            ["", "a in topics", "'a' in topics &&", "'a' in topics)", "('a' in topics", "'a b' in topics"]
        {
            assert!(check(wrong).is_err(), "{wrong}");
        }
        assert!(check(&"(".repeat(10_000)).is_err());
    }
}
