//! The binary form of `COPY … TO STDOUT`, read as it comes, cut anywhere.
//!
//! A header of 19 bytes; for each row a count of fields and each field's length and bytes; a count of -1 at the end. Nothing is
//! kept and nothing is allocated: a length in the stream is only ever counted down. Without the end a stream is not whole.

/// Signature, flags (none) and length of the extension (none): all that PostgreSQL 13 to 18 write.
const HEADER: [u8; 19] = *b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Takes what the stream holds, row by row.
pub trait Rows {
    /// Further bytes of the row: each field's length (-1: NULL) and value as they stand in the stream, cut anywhere.
    fn bytes(&mut self, span: &[u8]);
    /// The row is whole.
    fn end(&mut self);
}

/// Why a stream is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCopy {
    /// It does not begin as PostgreSQL begins one.
    #[error("it does not begin like a binary COPY")]
    Header,
    /// A row with other fields than were asked for.
    #[error("a row has {found} fields and not {expected}")]
    Fields {
        /// As asked for.
        expected: u16,
        /// As said in the stream.
        found: i16,
    },
    /// A length below -1.
    #[error("a field has the length {0}")]
    Length(i32),
    /// Bytes behind the end.
    #[error("there are bytes behind its end")]
    AfterEnd,
    /// It stopped before its end.
    #[error("it stopped before its end")]
    Truncated,
}

/// Where in the stream the next byte stands.
#[derive(Clone, Copy, Debug)]
enum At {
    /// So many bytes of the header were right.
    Header(usize),
    /// In a row's count of fields; its first byte, if that was read.
    Count(Option<u8>),
    /// In a field's length: so many bytes of it were read, and what they say.
    Length { read: u8, value: u32 },
    /// In a field's value: so many bytes are to come.
    Value(u32),
    /// Behind the end.
    End,
    /// It was refused: so is everything that follows.
    Refused(BadCopy),
}

/// At the first byte of a field's length.
const LENGTH: At = At::Length { read: 0, value: 0 };

/// A reader of one stream.
#[derive(Debug)]
pub struct BinaryCopy {
    fields: u16,
    at: At,
    /// Fields of this row that are to come, with the one that is being read.
    left: u16,
}

impl BinaryCopy {
    /// A reader of rows of so many fields, of one at least.
    pub fn new(fields: u16) -> BinaryCopy {
        BinaryCopy { fields: fields.max(1), at: At::Header(0), left: 0 }
    }

    /// Reads on. After an error every further call gives that error.
    pub fn feed(&mut self, chunk: &[u8], rows: &mut impl Rows) -> Result<(), BadCopy> {
        let read = self.read(chunk, rows);
        if let Err(bad) = read {
            self.at = At::Refused(bad);
        }
        read
    }

    /// The stream is over: it must have said so itself.
    pub fn finish(&self) -> Result<(), BadCopy> {
        match self.at {
            At::End => Ok(()),
            At::Refused(bad) => Err(bad),
            At::Header(_) | At::Count(_) | At::Length { .. } | At::Value(_) => Err(BadCopy::Truncated),
        }
    }

    fn read(&mut self, chunk: &[u8], rows: &mut impl Rows) -> Result<(), BadCopy> {
        // What of this row was not yet handed on begins here: a row that lies in one chunk is handed on in one piece.
        let mut row = 0;
        let mut rest = chunk;
        while let [next, behind @ ..] = rest {
            let mut field_over = false;
            match self.at {
                At::Refused(bad) => return Err(bad),
                At::End => return Err(BadCopy::AfterEnd),
                At::Header(at) => {
                    if HEADER.get(at) != Some(next) {
                        return Err(BadCopy::Header);
                    }
                    self.at = if at + 1 == HEADER.len() { At::Count(None) } else { At::Header(at + 1) };
                    rest = behind;
                }
                At::Count(None) => {
                    self.at = At::Count(Some(*next));
                    rest = behind;
                }
                At::Count(Some(high)) => {
                    self.at = match i16::from_be_bytes([high, *next]) {
                        -1 => At::End,
                        found if u16::try_from(found) == Ok(self.fields) => LENGTH,
                        found => return Err(BadCopy::Fields { expected: self.fields, found }),
                    };
                    self.left = self.fields;
                    rest = behind;
                    row = chunk.len() - rest.len();
                }
                At::Length { read: before, value: high } => {
                    let (read, value);
                    (read, value, rest) = match (before, rest.split_first_chunk::<4>()) {
                        (0, Some((whole, behind))) => (4, u32::from_be_bytes(*whole), behind),
                        _ => (before + 1, (high << 8) | u32::from(*next), behind),
                    };
                    match value.cast_signed() {
                        _ if read < 4 => self.at = At::Length { read, value },
                        -1 | 0 => field_over = true,
                        wrong @ ..-1 => return Err(BadCopy::Length(wrong)),
                        _ => self.at = At::Value(value),
                    }
                }
                At::Value(left) => {
                    let here = u32::try_from(rest.len()).unwrap_or(u32::MAX).min(left);
                    rest = rest.get(here as usize..).unwrap_or_default();
                    self.at = At::Value(left - here);
                    field_over = left == here;
                }
            }
            if field_over {
                self.left -= 1;
                self.at = if self.left > 0 { LENGTH } else { At::Count(None) };
                if self.left == 0 {
                    let upto = chunk.len() - rest.len();
                    rows.bytes(chunk.get(row..upto).unwrap_or_default());
                    rows.end();
                }
            }
        }
        if matches!(self.at, At::Length { .. } | At::Value(_)) {
            rows.bytes(chunk.get(row..).unwrap_or_default());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Row = Vec<Option<Vec<u8>>>;

    #[derive(Default)]
    struct Seen {
        whole: Vec<Vec<u8>>,
        open: Vec<u8>,
    }

    impl Rows for Seen {
        fn bytes(&mut self, span: &[u8]) {
            self.open.extend_from_slice(span);
        }

        fn end(&mut self) {
            self.whole.push(std::mem::take(&mut self.open));
        }
    }

    fn fields(row: &Row) -> Vec<u8> {
        let mut bytes = Vec::new();
        for field in row {
            let length = field.as_ref().map_or(-1, |value| i32::try_from(value.len()).unwrap());
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(field.as_deref().unwrap_or_default());
        }
        bytes
    }

    fn stream(rows: &[Row]) -> Vec<u8> {
        let mut bytes = HEADER.to_vec();
        for row in rows {
            bytes.extend_from_slice(&i16::try_from(row.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(&fields(row));
        }
        bytes.extend_from_slice(&(-1_i16).to_be_bytes());
        bytes
    }

    fn read(columns: u16, chunks: &[&[u8]]) -> (Result<(), BadCopy>, Seen) {
        let (mut copy, mut seen) = (BinaryCopy::new(columns), Seen::default());
        let fed = chunks.iter().try_for_each(|chunk| copy.feed(chunk, &mut seen));
        (fed.and_then(|()| copy.finish()), seen)
    }

    fn tables() -> impl Strategy<Value = (u16, Vec<Row>)> {
        let field = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..9));
        (1_usize..5).prop_flat_map(move |columns| {
            let row = proptest::collection::vec(field(), columns);
            (Just(u16::try_from(columns).unwrap()), proptest::collection::vec(row, 0..5))
        })
    }

    proptest! {
        #[test]
        fn rows_are_the_same_wherever_the_stream_is_cut((columns, rows) in tables(), size in 1_usize..40) {
            let bytes = stream(&rows);
            let chunks: Vec<&[u8]> = bytes.chunks(size).collect();
            let (read, seen) = read(columns, &chunks);
            prop_assert_eq!(read, Ok(()));
            prop_assert_eq!(seen.whole, rows.iter().map(fields).collect::<Vec<_>>());
            prop_assert!(seen.open.is_empty());
        }

        #[test]
        fn no_beginning_is_whole((columns, rows) in tables()) {
            let bytes = stream(&rows);
            for upto in 0..bytes.len() {
                prop_assert_eq!(read(columns, &[&bytes[..upto]]).0, Err(BadCopy::Truncated));
            }
            let mut more = bytes;
            more.push(0);
            prop_assert_eq!(read(columns, &[&more]).0, Err(BadCopy::AfterEnd));
        }

        #[test]
        fn garbage_is_refused_without_a_panic(
            columns in any::<u16>(), headed in any::<bool>(), garbage in proptest::collection::vec(any::<u8>(), 0..200)
        ) {
            let head = if headed { &HEADER[..] } else { &[] };
            let mut copy = BinaryCopy::new(columns);
            let mut seen = Seen::default();
            let fed = copy.feed(head, &mut seen).and_then(|()| copy.feed(&garbage, &mut seen));
            prop_assert!(seen.open.len() + seen.whole.iter().map(Vec::len).sum::<usize>() <= garbage.len());
            if let Err(bad) = fed {
                prop_assert_eq!(copy.feed(b"more", &mut seen), Err(bad));
                prop_assert_eq!(copy.finish(), Err(bad));
            }
        }
    }

    #[test]
    fn lies_in_the_stream_are_named() {
        let with = |bytes: &[u8]| read(2, &[&HEADER, bytes]).0;
        assert_eq!(with(&[0, 3]), Err(BadCopy::Fields { expected: 2, found: 3 }));
        assert_eq!(with(&[0xFF, 0xFE]), Err(BadCopy::Fields { expected: 2, found: -2 }));
        assert_eq!(with(&[0, 2, 0xFF, 0xFF, 0xFF, 0xFE]), Err(BadCopy::Length(-2)));
        assert_eq!(with(&[0, 2, 0x7F, 0xFF, 0xFF, 0xFF, 1]), Err(BadCopy::Truncated), "no memory is taken for it");
        assert_eq!(with(&[0xFF, 0xFF]), Ok(()));
        assert_eq!(read(2, &[b"PGCOPX"]).0, Err(BadCopy::Header));
        let mut flagged = HEADER;
        flagged[12] = 1;
        assert_eq!(read(2, &[&flagged]).0, Err(BadCopy::Header), "a form with object identifiers");
    }
}
