//! SPDX licence expressions: `MIT OR (Apache-2.0 AND ISC)`, `Apache-2.0 WITH LLVM-exception`, and the old
//! `MIT/Apache-2.0`, which means OR.

/// Whether the allowed licences satisfy the expression. `A WITH B` is asked for as one name.
pub(super) fn satisfied(text: &str, allowed: &dyn Fn(&str) -> bool) -> Result<bool, String> {
    let spaced = text.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { words: &words, allowed };
    let verdict = parser.either()?;
    match parser.words.first() {
        None => Ok(verdict),
        Some(word) => Err(format!("unexpected {word:?}")),
    }
}

struct Parser<'a> {
    words: &'a [&'a str],
    allowed: &'a dyn Fn(&str) -> bool,
}

impl<'a> Parser<'a> {
    fn either(&mut self) -> Result<bool, String> {
        let mut verdict = self.both()?;
        while self.take("OR") {
            verdict |= self.both()?;
        }
        Ok(verdict)
    }

    fn both(&mut self) -> Result<bool, String> {
        let mut verdict = self.one()?;
        while self.take("AND") {
            verdict &= self.one()?;
        }
        Ok(verdict)
    }

    fn one(&mut self) -> Result<bool, String> {
        if self.take("(") {
            let verdict = self.either()?;
            return if self.take(")") { Ok(verdict) } else { Err("a parenthesis stays open".into()) };
        }
        let licence = self.word()?;
        if self.take("WITH") {
            let exception = self.word()?;
            return Ok((self.allowed)(&format!("{licence} WITH {exception}")));
        }
        Ok((self.allowed)(licence))
    }

    fn word(&mut self) -> Result<&'a str, String> {
        match self.words {
            [] => Err("it ends too early".into()),
            ["OR" | "AND" | "WITH" | "(" | ")", ..] => Err(format!("unexpected {:?}", self.words[0])),
            [word, rest @ ..] => {
                self.words = rest;
                Ok(word)
            }
        }
    }

    fn take(&mut self, word: &str) -> bool {
        let there = self.words.first() == Some(&word);
        if there {
            self.words = &self.words[1..];
        }
        there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions() {
        for (text, expected) in [
            ("MIT", Some(true)),
            ("GPL-3.0", Some(false)),
            ("GPL-3.0 OR MIT", Some(true)),
            ("GPL-3.0/MIT", Some(true)),
            ("GPL-3.0 AND MIT", Some(false)),
            ("ISC AND (MIT OR GPL-3.0)", Some(true)),
            ("MIT OR ISC AND GPL-3.0", Some(true)),
            ("(MIT OR ISC) AND GPL-3.0", Some(false)),
            ("MIT WITH wings", Some(true)),
            ("ISC WITH wings", Some(false)),
            ("", None),
            ("MIT OR", None),
            ("(MIT", None),
            ("MIT ISC", None),
            ("MIT)", None),
        ] {
            let allowed = |licence: &str| ["MIT", "ISC", "MIT WITH wings"].contains(&licence);
            assert_eq!(satisfied(text, &allowed).ok(), expected, "{text:?}");
        }
    }
}
