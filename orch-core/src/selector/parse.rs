//! The query-string grammar of label selectors.
//!
//! ```text
//! selector    = [ requirement *( "," requirement ) ]
//! requirement = [ "!" ] KEY | KEY ( "=" | "==" | "!=" | ">" | "<" ) [ VALUE ] | KEY ( "in" | "notin" ) "(" set ")"
//! ```
//! The words `in` and `notin` are operators only where an operator stands.

use super::{Operator, Requirement, SelectorError};
use crate::validate;
use std::collections::BTreeSet;

/// A token and its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    End,
    Comma,
    Open,
    Close,
    Not,
    Binary(Operator, &'a str),
    Word(&'a str),
    Unknown(&'a str),
}

impl Token<'_> {
    fn text(&self) -> String {
        match self {
            Self::End => String::new(),
            Self::Comma => ",".into(),
            Self::Open => "(".into(),
            Self::Close => ")".into(),
            Self::Not => "!".into(),
            Self::Binary(_, text) | Self::Word(text) => (*text).into(),
            Self::Unknown(text) => format!("error expected: keyword found '{text}'"),
        }
    }
}

const SPECIAL: [char; 7] = ['=', '!', '(', ')', ',', '>', '<'];
const SPACE: [char; 4] = [' ', '\t', '\r', '\n'];

fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut out = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(SPACE);
        // As upstream, a NUL ends the text.
        if rest.is_empty() || rest.starts_with('\0') {
            out.push(Token::End);
            return out;
        }
        let (token, length) = if rest.starts_with(SPECIAL) {
            special(rest)
        } else {
            word(rest)
        };
        out.push(token);
        rest = &rest[length..];
    }
}

fn special(rest: &str) -> (Token<'_>, usize) {
    for (text, operator) in [("==", Operator::DoubleEquals), ("!=", Operator::NotEquals)] {
        if rest.starts_with(text) {
            return (Token::Binary(operator, text), 2);
        }
    }
    let token = match rest.as_bytes().first() {
        Some(b'=') => Token::Binary(Operator::Equals, "="),
        Some(b'>') => Token::Binary(Operator::GreaterThan, ">"),
        Some(b'<') => Token::Binary(Operator::LessThan, "<"),
        Some(b'!') => Token::Not,
        Some(b'(') => Token::Open,
        Some(b')') => Token::Close,
        Some(b',') => Token::Comma,
        _ => Token::Unknown(rest),
    };
    (token, 1)
}

fn word(rest: &str) -> (Token<'_>, usize) {
    let end = rest
        .find(|c| SPECIAL.contains(&c) || SPACE.contains(&c) || c == '\0')
        .unwrap_or(rest.len());
    let text = &rest[..end];
    let token = match text {
        "in" => Token::Binary(Operator::In, text),
        "notin" => Token::Binary(Operator::NotIn, text),
        _ => Token::Word(text),
    };
    (token, end)
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
}

fn syntax<T>(text: String) -> Result<T, SelectorError> {
    Err(SelectorError::Syntax(text))
}

impl<'a> Parser<'a> {
    fn peek_operator(&self) -> Token<'a> {
        self.tokens.get(self.at).copied().unwrap_or(Token::End)
    }
    /// The next token where a key or value may stand: there, `in` and `notin` are words.
    fn peek(&self) -> Token<'a> {
        match self.peek_operator() {
            Token::Binary(Operator::In | Operator::NotIn, text) => Token::Word(text),
            other => other,
        }
    }
    fn next(&mut self) -> Token<'a> {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn selector(&mut self) -> Result<Vec<Requirement>, SelectorError> {
        let mut out = Vec::new();
        loop {
            match self.peek() {
                Token::End => return Ok(out),
                Token::Word(_) | Token::Not => {}
                other => {
                    return syntax(format!(
                        "found '{}', expected: !, identifier, or 'end of string'",
                        other.text()
                    ));
                }
            }
            let requirement = self
                .requirement()
                .map_err(|e| SelectorError::Syntax(format!("unable to parse requirement: {e}")))?;
            out.push(requirement);
            match self.next() {
                Token::End => return Ok(out),
                Token::Comma => {
                    let after = self.peek();
                    if !matches!(after, Token::Word(_) | Token::Not) {
                        return syntax(format!(
                            "found '{}', expected: identifier after ','",
                            after.text()
                        ));
                    }
                }
                other => {
                    return syntax(format!(
                        "found '{}', expected: ',' or 'end of string'",
                        other.text()
                    ));
                }
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let negated = self.peek() == Token::Not;
        if negated {
            self.at += 1;
        }
        let key = match self.next() {
            Token::Word(text) => text.to_owned(),
            other => return syntax(format!("found '{}', expected: identifier", other.text())),
        };
        let wrong = validate::qualified_name(&key);
        if !wrong.is_empty() {
            return syntax(format!("<nil>: Invalid value: {key:?}: {}", wrong.join("; ")));
        }
        if negated {
            return Requirement::new(key, Operator::DoesNotExist, Vec::new());
        }
        if matches!(self.peek(), Token::End | Token::Comma) {
            return Requirement::new(key, Operator::Exists, Vec::new());
        }
        let token = self.peek_operator();
        self.at += 1;
        let Token::Binary(operator, _) = token else {
            return self.not_an_operator(token);
        };
        let values = match operator {
            Operator::In | Operator::NotIn => self.set()?,
            _ => self.value()?,
        };
        Requirement::new(key, operator, values.into_iter().collect())
    }

    fn not_an_operator<T>(&self, token: Token<'a>) -> Result<T, SelectorError> {
        syntax(format!(
            "found '{}', expected: in, notin, =, ==, !=, gt, lt",
            token.text()
        ))
    }

    fn value(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        if matches!(self.peek(), Token::End | Token::Comma) {
            return Ok(BTreeSet::from([String::new()]));
        }
        match self.next() {
            Token::Word(text) => Ok(BTreeSet::from([text.to_owned()])),
            other => syntax(format!("found '{}', expected: identifier", other.text())),
        }
    }

    fn set(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        let open = self.next();
        if open != Token::Open {
            return syntax(format!("found '{}' expected: '('", open.text()));
        }
        let mut out = BTreeSet::new();
        match self.peek() {
            Token::Close => {
                self.at += 1;
                return Ok(BTreeSet::from([String::new()]));
            }
            Token::Word(_) | Token::Comma => {}
            other => {
                return syntax(format!(
                    "found '{}', expected: ',', ')' or identifier",
                    other.text()
                ));
            }
        }
        loop {
            match self.next() {
                Token::Word(text) => {
                    out.insert(text.to_owned());
                    match self.peek() {
                        Token::Comma => {}
                        Token::Close => break,
                        other => return syntax(format!("found '{}', expected: ',' or ')'", other.text())),
                    }
                }
                Token::Comma => {
                    if out.is_empty() {
                        out.insert(String::new());
                    }
                    match self.peek() {
                        Token::Close => {
                            out.insert(String::new());
                            break;
                        }
                        Token::Comma => {
                            out.insert(String::new());
                        }
                        _ => {}
                    }
                }
                other => return syntax(format!("found '{}', expected: ',', or identifier", other.text())),
            }
        }
        self.at += 1; // the closing parenthesis, seen above
        Ok(out)
    }
}

pub(super) fn requirements(text: &str) -> Result<Vec<Requirement>, SelectorError> {
    Parser {
        tokens: tokens(text),
        at: 0,
    }
    .selector()
}
