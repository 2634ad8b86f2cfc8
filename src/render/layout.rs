//! Lines and columns of a terminal.

/// Escapes of the few colours that are used; empty where colour is not wanted.
#[derive(Clone, Copy)]
pub struct Paint(pub bool);

/// What is painted.
#[derive(Clone, Copy)]
pub enum Tone {
    /// Good.
    Good,
    /// Bad.
    Bad,
    /// Not known.
    Doubt,
    /// A heading.
    Strong,
    /// Less important.
    Faint,
}

impl Paint {
    /// The text in that tone.
    pub fn paint(self, tone: Tone, text: &str) -> String {
        if !self.0 {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Good => "1;32",
            Tone::Bad => "1;31",
            Tone::Doubt => "1;33",
            Tone::Strong => "1",
            Tone::Faint => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Breaks a text at spaces into lines of at most `width` characters; a longer word is cut.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(8);
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut used = 0;
    for word in text.split_whitespace() {
        let mut word = word;
        let mut length = word.chars().count();
        if used > 0 && used + 1 + length <= width {
            line.push(' ');
            line.push_str(word);
            used += 1 + length;
            continue;
        }
        if used > 0 {
            lines.push(std::mem::take(&mut line));
        }
        while length > width {
            let cut = word.char_indices().nth(width).map_or(word.len(), |(at, _)| at);
            let (head, tail) = word.split_at(cut);
            lines.push(head.to_owned());
            word = tail;
            length -= width;
        }
        line = word.to_owned();
        used = length;
    }
    if used > 0 || lines.is_empty() {
        lines.push(line);
    }
    lines
}

/// A paragraph: the first line after `first`, the others as far in.
pub fn hanging(out: &mut String, first: &str, text: &str, width: usize) {
    let indent = first.chars().count();
    for (index, line) in wrap(text, width.saturating_sub(indent)).iter().enumerate() {
        if index == 0 {
            out.push_str(first);
        } else {
            out.push_str(&" ".repeat(indent));
        }
        out.push_str(line);
        out.push('\n');
    }
}

/// A cell, and the tone it is painted in.
pub type Cell = (String, Option<Tone>);

/// A table without lines: columns as wide as they must be; where that is too much, the longest texts wrap.
pub fn table(out: &mut String, heads: &[&str], rows: &[Vec<Cell>], width: usize, paint: Paint) {
    let columns = heads.len();
    let widest = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|(text, _)| text.chars().count());
        cells.chain([heads[column].chars().count()]).max().unwrap_or(0)
    };
    // A word is cut only where it is absurdly long: run and backup ids stay whole, so that they can be copied.
    let longest_word = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).flat_map(|(text, _)| text.split_whitespace());
        cells.map(|word| word.chars().count()).max().unwrap_or(0).clamp(8, 40)
    };
    let mut widths: Vec<usize> = (0..columns).map(widest).collect();
    // What is too much is taken from the column that can give most, the last one first.
    while let Some(excess) = (widths.iter().map(|w| w + 2).sum::<usize>()).checked_sub(width).filter(|n| *n > 0) {
        let last = columns.saturating_sub(1);
        let least = |column: usize| if column == last { longest_word(column).max(20) } else { longest_word(column) };
        let slack = |column: usize| widths[column].saturating_sub(least(column));
        let giver = if slack(last) > 0 { Some(last) } else { (0..columns).max_by_key(|column| slack(*column)) };
        let Some(giver) = giver.filter(|column| slack(*column) > 0) else { break };
        widths[giver] -= excess.min(slack(giver));
    }
    let heading: Vec<Cell> = heads.iter().map(|head| ((*head).to_owned(), Some(Tone::Faint))).collect();
    for row in std::iter::once(&heading).chain(rows) {
        let cells: Vec<Vec<String>> = row.iter().zip(&widths).map(|((text, _), w)| wrap(text, *w)).collect();
        let height = cells.iter().map(Vec::len).max().unwrap_or(0);
        for line in 0..height {
            let mut text = String::from("  ");
            for (column, lines) in cells.iter().enumerate() {
                let cell = lines.get(line).map_or("", String::as_str);
                let pad = widths[column].saturating_sub(cell.chars().count());
                match row[column].1 {
                    Some(tone) if !cell.is_empty() => text.push_str(&paint.paint(tone, cell)),
                    _ => text.push_str(cell),
                }
                if column + 1 < columns {
                    text.push_str(&" ".repeat(pad + 2));
                }
            }
            out.push_str(text.trim_end());
            out.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_never_wider_than_asked_and_lose_nothing() {
        let text = "one two three fourfivesixseveneightnine é表é表é表é表é表é表é表é表 end";
        for width in 8..40 {
            let lines = wrap(text, width);
            assert!(lines.iter().all(|line| line.chars().count() <= width), "{width}: {lines:?}");
            let flat = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            assert_eq!(flat(&lines.concat()), flat(text));
        }
        assert_eq!(wrap("", 20), [""]);
    }
}
