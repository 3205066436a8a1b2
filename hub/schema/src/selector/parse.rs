//! The `labelSelector` of a query, read from left to right.

use std::collections::BTreeSet;

use super::lexer::{Lexer, Token};
use super::requirement::{Operator, Requirement};
use super::{REQUIREMENTS_MAX, TEXT_BYTES_MAX, VALUES_MAX};
use crate::error::ApiError;
use crate::name;

/// All requirements of the text; none of an empty one.
pub(super) fn requirements(text: &str) -> Result<Vec<Requirement>, ApiError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(ApiError::bad_request("labelSelector is too long"));
    }
    let mut lexer = Lexer::new(text);
    let (mut requirements, mut values) = (Vec::new(), 0);
    match lexer.peek() {
        Token::End => return Ok(requirements),
        Token::Word(_) | Token::Not => {}
        other => {
            return Err(unparsed(&format!(
                "found '{}', expected: !, identifier, or 'end of string'",
                other.text()
            )));
        }
    }
    loop {
        if requirements.len() == REQUIREMENTS_MAX {
            return Err(ApiError::bad_request("labelSelector has too many requirements"));
        }
        let next = requirement(&mut lexer)?;
        values += next.operator.values();
        if VALUES_MAX < values {
            return Err(ApiError::bad_request("labelSelector has too many values"));
        }
        requirements.push(next);
        match lexer.next() {
            Token::End => return Ok(requirements),
            Token::Comma => {}
            other => {
                return Err(ApiError::bad_request(format!(
                    "found '{}', expected: ',' or 'end of string'",
                    other.text()
                )));
            }
        }
        if !matches!(lexer.peek(), Token::Word(_) | Token::Not) {
            return Err(ApiError::bad_request(format!(
                "found '{}', expected: identifier after ','",
                lexer.peek().text()
            )));
        }
    }
}

fn unparsed(why: &str) -> ApiError {
    ApiError::bad_request(format!("unable to parse requirement: {why}"))
}

fn requirement(lexer: &mut Lexer<'_>) -> Result<Requirement, ApiError> {
    let absent = lexer.peek() == Token::Not;
    if absent {
        lexer.next();
    }
    let key = match lexer.next() {
        Token::Word(key) => key,
        Token::End => return Err(unparsed("found '', expected: identifier")),
        other => {
            return Err(unparsed(&format!("found '{}', expected: identifier", other.text())));
        }
    };
    if let [complaint, ..] = name::qualified_name(key).as_slice() {
        return Err(unparsed(&format!("<nil>: Invalid value: {key:?}: {complaint}")));
    }
    let done = |operator| Ok(Requirement { key: key.to_owned(), operator });
    if absent {
        return done(Operator::DoesNotExist);
    }
    if matches!(lexer.peek(), Token::End | Token::Comma) {
        return done(Operator::Exists);
    }
    let operator = match lexer.next() {
        Token::Equals | Token::DoubleEquals => Operator::In(exact_value(lexer, key)?),
        Token::NotEquals => Operator::NotIn(exact_value(lexer, key)?),
        Token::Greater => Operator::Greater(bound(lexer, key, "Gt")?),
        Token::Less => Operator::Less(bound(lexer, key, "Lt")?),
        Token::Word("in") => Operator::In(value_set(lexer, key)?),
        Token::Word("notin") => Operator::NotIn(value_set(lexer, key)?),
        other => {
            let found = other.text();
            return Err(unparsed(&format!(
                "found '{found}', expected: in, notin, =, ==, !=, gt, lt"
            )));
        }
    };
    done(operator)
}

fn exact_value(lexer: &mut Lexer<'_>, key: &str) -> Result<BTreeSet<String>, ApiError> {
    match lexer.peek() {
        Token::End | Token::Comma => Ok(BTreeSet::from([String::new()])),
        Token::Word(word) => {
            lexer.next();
            Ok(BTreeSet::from([checked(word, key)?]))
        }
        other => Err(unparsed(&format!("found '{}', expected: identifier", other.text()))),
    }
}

fn bound(lexer: &mut Lexer<'_>, key: &str, operator: &str) -> Result<i64, ApiError> {
    let token = lexer.next();
    token.text().parse().map_err(|_| {
        unparsed(&format!(
            "values[0][{key}]: Invalid value: {:?}: for {operator:?} operators, the value must be an integer",
            token.text()
        ))
    })
}

fn value_set(lexer: &mut Lexer<'_>, key: &str) -> Result<BTreeSet<String>, ApiError> {
    let open = lexer.next();
    if open != Token::Open {
        return Err(unparsed(&format!("found '{}' expected: '('", open.text())));
    }
    let mut values = BTreeSet::new();
    if lexer.peek() == Token::Close {
        lexer.next();
        values.insert(String::new());
        return Ok(values);
    }
    loop {
        // A comma without a word before it stands for the empty value.
        let value = if let Token::Word(word) = lexer.peek() {
            lexer.next();
            word
        } else {
            ""
        };
        values.insert(checked(value, key)?);
        match lexer.next() {
            Token::Close => return Ok(values),
            Token::Comma => {}
            other => {
                let found = other.text();
                return Err(unparsed(&format!("found '{found}', expected: ',' or ')'")));
            }
        }
    }
}

fn checked(value: &str, key: &str) -> Result<String, ApiError> {
    match name::label_value(value).as_slice() {
        [] => Ok(value.to_owned()),
        [complaint, ..] => {
            Err(unparsed(&format!("values[0][{key}]: Invalid value: {value:?}: {complaint}")))
        }
    }
}
