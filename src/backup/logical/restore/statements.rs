//! SQL text cut into statements, without ever running it: strings, quoted names, dollar quotes, comments, parentheses and
//! `BEGIN ATOMIC` bodies are passed over as the server's own lexer does.

/// A piece of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// One statement, without its semicolon and without comments before it.
    Sql(String),
    /// A line for psql (`\connect …`).
    Backslash(String),
}

/// A token of a statement: enough to tell what it would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// A bare word, in lower case.
    Word(String),
    /// A name in double quotes, without them.
    Quoted(String),
    /// A string constant or a dollar quote.
    Text,
    /// Anything else.
    Sign(char),
}

/// Tokens with the place where each begins and ends.
type Spanned = (Token, usize, usize);

/// Where the thing that begins at `at` ends; none: it never does.
fn end_of_quote(bytes: &[u8], at: usize, quote: u8, backslashes: bool) -> Option<usize> {
    let mut next = at + 1;
    loop {
        match bytes.get(next)? {
            b'\\' if backslashes => next += 2,
            byte if *byte == quote && bytes.get(next + 1) == Some(&quote) => next += 2,
            byte if *byte == quote => return Some(next + 1),
            _ => next += 1,
        }
    }
}

fn end_of_comment(bytes: &[u8], at: usize) -> Option<usize> {
    let (mut depth, mut next) = (0usize, at);
    loop {
        match (bytes.get(next)?, bytes.get(next + 1)) {
            (b'/', Some(b'*')) => (depth, next) = (depth + 1, next + 2),
            (b'*', Some(b'/')) => (depth, next) = (depth - 1, next + 2),
            _ => next += 1,
        }
        if depth == 0 {
            return Some(next);
        }
    }
}

fn end_of_dollar_quote(text: &str, at: usize) -> Option<Option<usize>> {
    let rest = text.get(at + 1..)?;
    let tag_end = rest.find('$')?;
    let tag = &rest[..tag_end];
    let good = tag.chars().all(|c| c.is_alphanumeric() || c == '_' || !c.is_ascii())
        && !tag.starts_with(|c: char| c.is_ascii_digit());
    if !good {
        return None;
    }
    let mark = &text[at..at + tag_end + 2];
    let body = at + mark.len();
    Some(text.get(body..)?.find(mark).map(|found| body + found + mark.len()))
}

fn in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

/// Reads the next token at or after `at`, passing over white space and comments; `Ok(None)` at the end.
fn next_token(text: &str, mut at: usize) -> Result<Option<Spanned>, String> {
    let bytes = text.as_bytes();
    let unended = |what: &str, from: usize| format!("{what} that begins at byte {from} never ends");
    loop {
        let Some(byte) = bytes.get(at) else { return Ok(None) };
        match (byte, bytes.get(at + 1)) {
            (b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c, _) => at += 1,
            (b'-', Some(b'-')) => at = text[at..].find('\n').map_or(text.len(), |line| at + line + 1),
            (b'/', Some(b'*')) => at = end_of_comment(bytes, at).ok_or_else(|| unended("a comment", at))?,
            _ => break,
        }
    }
    let byte = bytes[at];
    let token = match byte {
        b'\'' => (Token::Text, at, end_of_quote(bytes, at, b'\'', false).ok_or_else(|| unended("a string", at))?),
        b'"' => {
            let end = end_of_quote(bytes, at, b'"', false).ok_or_else(|| unended("a name", at))?;
            (Token::Quoted(text[at + 1..end - 1].replace("\"\"", "\"")), at, end)
        }
        b'$' => match end_of_dollar_quote(text, at) {
            Some(Some(end)) => (Token::Text, at, end),
            Some(None) => return Err(unended("a dollar quote", at)),
            None => (Token::Sign('$'), at, at + 1),
        },
        b'e' | b'E' if bytes.get(at + 1) == Some(&b'\'') => {
            let end = end_of_quote(bytes, at + 1, b'\'', true).filter(|end| *end <= bytes.len());
            (Token::Text, at, end.ok_or_else(|| unended("a string", at))?)
        }
        byte if in_word(byte) => {
            let length = bytes[at..].iter().take_while(|byte| in_word(**byte)).count();
            (Token::Word(text[at..at + length].to_lowercase()), at, at + length)
        }
        byte => (Token::Sign(byte as char), at, at + 1),
    };
    Ok(Some(token))
}

/// The tokens of one statement, with their places.
pub fn tokens(statement: &str) -> Result<Vec<Spanned>, String> {
    let (mut all, mut at) = (Vec::new(), 0);
    while let Some(token) = next_token(statement, at)? {
        at = token.2;
        all.push(token);
    }
    Ok(all)
}

/// Cuts a script. An error when something in it never ends.
pub fn split(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let (mut at, mut begins) = (0usize, None::<usize>);
    let (mut depth, mut blocks) = (0usize, 0usize);
    let mut words: Vec<String> = Vec::new();
    while let Some((token, from, to)) = next_token(text, at)? {
        at = to;
        if begins.is_none() {
            if token == Token::Sign('\\') {
                let end = text[from..].find('\n').map_or(text.len(), |line| from + line);
                pieces.push(Piece::Backslash(text[from..end].trim_ascii_end().to_owned()));
                at = end;
                continue;
            }
            if token == Token::Sign(';') {
                continue;
            }
            begins = Some(from);
        }
        match token {
            Token::Sign('(') => depth += 1,
            Token::Sign(')') => depth = depth.saturating_sub(1),
            Token::Sign(';') if depth == 0 && blocks == 0 => {
                if let Some(start) = begins.take() {
                    pieces.push(Piece::Sql(text[start..from].trim_ascii_end().to_owned()));
                }
                words.clear();
            }
            Token::Word(word) if depth == 0 => {
                // As psql does: only in a function's definition do BEGIN, CASE and END nest.
                let routine = words.first().is_some_and(|first| first == "create")
                    && words.iter().take(4).any(|word| word == "function" || word == "procedure");
                match word.as_str() {
                    "begin" if routine => blocks += 1,
                    "case" if blocks > 0 => blocks += 1,
                    "end" => blocks = blocks.saturating_sub(1),
                    _ => {}
                }
                if words.len() < 4 {
                    words.push(word);
                }
            }
            _ => {}
        }
    }
    match begins {
        Some(start) => Err(format!("the last statement, which begins at byte {start}, never ends")),
        None => Ok(pieces),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sql(text: &str) -> Vec<String> {
        let pieces = split(text).unwrap();
        pieces
            .into_iter()
            .map(|piece| match piece {
                Piece::Sql(text) | Piece::Backslash(text) => text,
            })
            .collect()
    }

    #[test]
    fn statements_are_cut_where_the_server_would() {
        assert_eq!(sql("a;b ; c;"), ["a", "b", "c"]);
        // No space to PostgreSQL, which knows those of ASCII: a word like others.
        assert_eq!(sql("a;\u{a0};b;"), ["a", "\u{a0}", "b"]);
        assert_eq!(sql("select ';' , \";\" , $$;$$ , $a$ ; $$ $a$, E'\\';' ;x;").len(), 2);
        assert_eq!(sql("-- ;\n/* ; /* ; */ ; */ a -- ;\n;b;").len(), 2);
        assert_eq!(sql("select 'it''s;', \"a\"\"b;\";x;").len(), 2);
        assert_eq!(sql("create rule r as on insert to t do (a; b);x;").len(), 2);
        let function = "CREATE FUNCTION f() RETURNS integer\n LANGUAGE sql\n BEGIN ATOMIC\n SELECT CASE WHEN true THEN 1 END;\n SELECT 2;\nEND";
        assert_eq!(sql(&format!("{function};\nx;")), [function, "x"]);
        assert_eq!(
            sql("\\restrict abc\nselect 1;\n\\unrestrict abc\n"),
            ["\\restrict abc", "select 1", "\\unrestrict abc"]
        );
        assert_eq!(sql("select 1\n\\! rm\n;").len(), 1, "inside of a statement it is the server's to refuse");
    }

    #[test]
    fn what_never_ends_is_an_error() {
        for text in ["select 1", "select 'a;", "select \"a;", "/* a", "$$ a;", "$x$ $$ ;", "E'\\'"] {
            assert!(split(text).is_err(), "{text}");
        }
    }

    #[test]
    fn tokens_keep_names_and_places() {
        let text = "CREATE  ROLE \"a\"\"b\" x";
        let all = tokens(text).unwrap();
        assert_eq!(all[0].0, Token::Word("create".into()));
        assert_eq!(all[2].0, Token::Quoted("a\"b".into()));
        assert_eq!(&text[all[2].1..all[2].2], "\"a\"\"b\"");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[ -~\\n\u{e9}]{0,60}") {
            let _ = split(&text);
            let _ = tokens(&text);
        }
    }
}
