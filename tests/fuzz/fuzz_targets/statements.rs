//! A script of globals cut into statements: what was cut, put together again, cuts the same way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lifeboat::backup::logical::statements::{Piece, split, tokens};

fuzz_target!(|text: &str| {
    let Ok(pieces) = split(text) else { return };
    let mut again = String::new();
    for piece in &pieces {
        match piece {
            Piece::Sql(sql) => {
                assert!(tokens(sql).is_ok_and(|tokens| !tokens.is_empty()), "a statement without a word: {sql:?}");
                // A comment that ends a statement would swallow its semicolon: it gets a line of its own.
                again.push_str(sql);
                again.push_str("\n;\n");
            }
            Piece::Backslash(line) => {
                again.push_str(line);
                again.push('\n');
            }
        }
    }
    let twice = split(&again).expect("what was cut once can be cut again");
    let words = |pieces: &[Piece]| -> Vec<String> {
        let text = |piece: &Piece| match piece {
            Piece::Sql(text) | Piece::Backslash(text) => text.trim_ascii_end().to_owned(),
        };
        pieces.iter().map(text).collect()
    };
    assert_eq!(words(&pieces), words(&twice));
});
