//! Lines of the shell: lists of pipelines.

use std::fmt;

/// A pipeline: one job.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Pipeline {
    /// The words of each command, as they were typed.
    pub commands: Vec<Vec<String>>,
    /// Whether it ends with `&`.
    pub is_background: bool,
    /// The commands as they were typed, for `jobs`.
    pub text: String,
}

/// A token where the grammar has none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyntaxError(String);

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_str() {
            quote @ ("'" | "\"") => {
                write!(f, "unexpected EOF while looking for matching `{quote}'")
            }
            token => write!(f, "syntax error near unexpected token `{token}'"),
        }
    }
}

enum Token {
    /// As it was typed.
    Word(String),
    Operator(char),
}

const OPERATORS: &str = "|&;";

/// Splits a line into words and operators.
fn tokens(line: &str) -> Result<Vec<Token>, SyntaxError> {
    let mut tokens = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        if OPERATORS.contains(first) {
            tokens.push(Token::Operator(first));
            rest = rest[1..].trim_start();
            continue;
        }
        let mut quote = None;
        let is_end = |(_, char): &(usize, char)| {
            match quote {
                None if matches!(char, '\'' | '"') => quote = Some(*char),
                Some(open) if open == *char => quote = None,
                _ => {}
            }
            quote.is_none() && (char.is_whitespace() || OPERATORS.contains(*char))
        };
        let end = rest.char_indices().find(is_end).map_or(rest.len(), |(at, _)| at);
        if let Some(quote) = quote {
            return Err(SyntaxError(quote.into()));
        }
        tokens.push(Token::Word(rest[..end].into()));
        rest = rest[end..].trim_start();
    }
    Ok(tokens)
}

/// A word without its quotes; `$?` outside of single quotes is `status`.
pub fn expand(word: &str, status: i32) -> String {
    let (mut text, mut quote) = (String::new(), None);
    let mut chars = word.chars().peekable();
    while let Some(char) = chars.next() {
        match (quote, char) {
            (None, '\'' | '"') => quote = Some(char),
            (Some(open), _) if char == open => quote = None,
            (None | Some('"'), '$') if chars.next_if_eq(&'?').is_some() => {
                text.push_str(&status.to_string());
            }
            _ => text.push(char),
        }
    }
    text
}

/// The pipelines of a line.
///
/// # Errors
///
/// An operator without a command before it, a `|` without one after it, an open quote.
pub fn parse(line: &str) -> Result<Vec<Pipeline>, SyntaxError> {
    let (mut pipelines, mut pipeline) = (Vec::new(), Pipeline::default());
    let mut command = Vec::new();
    for token in tokens(line)? {
        match token {
            Token::Word(word) => {
                if !pipeline.text.is_empty() {
                    pipeline.text.push(' ');
                }
                pipeline.text.push_str(&word);
                command.push(word);
            }
            Token::Operator(operator) if command.is_empty() => {
                return Err(SyntaxError(operator.into()));
            }
            Token::Operator(operator) => {
                pipeline.commands.push(std::mem::take(&mut command));
                match operator {
                    '|' => pipeline.text.push_str(" |"),
                    _ => {
                        pipeline.is_background = operator == '&';
                        pipelines.push(std::mem::take(&mut pipeline));
                    }
                }
            }
        }
    }
    match (command.is_empty(), pipeline.commands.is_empty()) {
        (true, false) => return Err(SyntaxError("newline".into())),
        (true, true) => {}
        (false, _) => {
            pipeline.commands.push(command);
            pipelines.push(pipeline);
        }
    }
    Ok(pipelines)
}
