//! Many archives in, one tar out.
//!
//! A server sends one tar for each tablespace and one for the data folder. The pump reads member headers as the bytes pass
//! and writes a single tar in which tablespaces are real folders (`pg_tblspc/<oid>/…`), so that the parts of the artifact,
//! put end to end, unpack anywhere without a link that points out of the folder. `backup_manifest` is its last member.
//!
//! Nothing that a hostile server could send becomes a member that leaves the folder: absolute paths, `..`, devices and links
//! are refused; the links of tablespaces are left out, for their folders are there.

use std::collections::BTreeSet;

use tar::{EntryType, Header};

use super::pages::PageWatch;
use crate::domain::artifact::MemberKind;
use crate::domain::check::Broke;
use crate::seal::{Member, StreamWriter};

/// Bytes of a tar's block.
pub(super) const BLOCK: usize = 512;
/// The label is a few hundred bytes; no server makes one this long.
const LABEL_AT_MOST: usize = 64 << 10;
/// How much of the manifest's end is kept, to read where the log ends.
const MANIFEST_TAIL: usize = 64 << 10;
/// The member that says where the backup begins in the log.
const LABEL: &str = "backup_label";
/// The member that lists all files, and where the log ends.
const MANIFEST: &str = "backup_manifest";

/// Where one tar stream goes.
pub trait TarSink: Send {
    /// Takes bytes.
    fn write(&mut self, bytes: &[u8]) -> Result<(), Broke>;
    /// The header of this member has been written; its data comes next.
    fn member(&mut self, member: Member) -> Result<(), Broke>;
}

impl TarSink for StreamWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Broke> {
        StreamWriter::write(self, bytes).map_err(Broke::from)
    }

    fn member(&mut self, member: Member) -> Result<(), Broke> {
        StreamWriter::member(self, member).map_err(Broke::from)
    }
}

/// What passes now.
#[derive(Debug)]
enum Place {
    /// A header.
    Header,
    /// So much of a member, then padding.
    Data { left: u64, padding: usize, keep: Keep },
    /// Zeros up to the next block.
    Padding(usize),
    /// The archive has ended; zeros may follow.
    Ended,
}

/// Members whose content is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    Nothing,
    Label,
    Manifest,
}

/// Joins archives into one tar.
#[derive(Debug)]
pub struct Pump<S> {
    sink: S,
    pages: Option<PageWatch>,
    place: Place,
    header: Vec<u8>,
    tablespace: Option<u32>,
    tablespaces: BTreeSet<u32>,
    links: BTreeSet<u32>,
    label: Vec<u8>,
    manifest_tail: Vec<u8>,
    manifest_seen: bool,
    members: u64,
}

/// What came out of the pump.
#[derive(Debug)]
pub struct Pumped<S> {
    /// The sink: everything is in it, the end of the archive too; it is not finished.
    pub sink: S,
    /// The pages that passed, not yet judged.
    pub pages: Option<PageWatch>,
    /// `backup_label`.
    pub label: Vec<u8>,
    /// The end of `backup_manifest`.
    pub manifest_tail: Vec<u8>,
    /// Members written.
    pub members: u64,
    /// What was left out because it is neither a file nor a folder: paths.
    pub left_out: Vec<String>,
}

impl<S: TarSink> Pump<S> {
    /// `pages`: whether page checksums are verified on the way.
    pub fn new(sink: S, pages: bool) -> Pump<S> {
        Pump {
            sink,
            pages: pages.then(PageWatch::default),
            place: Place::Header,
            header: Vec::with_capacity(BLOCK),
            tablespace: None,
            tablespaces: BTreeSet::new(),
            links: BTreeSet::new(),
            label: Vec::new(),
            manifest_tail: Vec::new(),
            manifest_seen: false,
            members: 0,
        }
    }

    /// The next archive begins: of a tablespace, or of the data folder itself.
    pub fn archive(&mut self, tablespace: Option<u32>) -> Result<(), Broke> {
        self.at_boundary()?;
        self.place = Place::Header;
        self.tablespace = tablespace;
        if let Some(oid) = tablespace {
            self.tablespaces.insert(oid);
            let path = format!("pg_tblspc/{oid}");
            let mut header = Header::new_ustar();
            header.set_entry_type(EntryType::Directory);
            header.set_mode(0o700);
            header.set_size(0);
            self.announce(header, path, MemberKind::Folder)?;
        }
        Ok(())
    }

    /// Takes bytes of the archive, however they are cut.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), Broke> {
        while !bytes.is_empty() {
            bytes = match self.place {
                Place::Header => self.take_header(bytes)?,
                Place::Data { left, padding, keep } => self.take_data(bytes, left, padding, keep)?,
                Place::Padding(left) => {
                    let now = left.min(bytes.len());
                    self.sink.write(&bytes[..now])?;
                    self.place = if now == left { Place::Header } else { Place::Padding(left - now) };
                    &bytes[now..]
                }
                Place::Ended => {
                    if bytes.iter().any(|byte| *byte != 0) {
                        return Err(bad("something follows the end of an archive"));
                    }
                    &[]
                }
            };
        }
        Ok(())
    }

    /// Appends `backup_manifest`, where the server sends it beside the archives and not in them.
    pub fn append_manifest(&mut self, text: &[u8]) -> Result<(), Broke> {
        self.archive(None)?;
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o600);
        header.set_size(text.len() as u64);
        self.announce(header, MANIFEST.to_owned(), MemberKind::File)?;
        let padding = padding_after(text.len() as u64);
        self.place = Place::Data { left: text.len() as u64, padding, keep: Keep::Manifest };
        self.feed(text)?;
        self.feed(&vec![0; padding])
    }

    /// All archives have passed and their producer ended well: writes the end of the one tar.
    pub fn finish(mut self) -> Result<Pumped<S>, Broke> {
        self.at_boundary()?;
        if !self.manifest_seen {
            return Err(bad("it has no backup_manifest at its end"));
        }
        if let Some(oid) = self.links.difference(&self.tablespaces).next() {
            return Err(bad(&format!("the files of tablespace {oid} are not in it")));
        }
        self.sink.write(&[0; 2 * BLOCK])?;
        let Pump { sink, pages, label, manifest_tail, members, .. } = self;
        Ok(Pumped { sink, pages, label, manifest_tail, members, left_out: Vec::new() })
    }

    fn at_boundary(&self) -> Result<(), Broke> {
        match self.place {
            Place::Header if self.header.is_empty() => Ok(()),
            Place::Ended => Ok(()),
            _ => Err(bad("an archive ends in the middle of a member")),
        }
    }

    fn take_header<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8], Broke> {
        let now = (BLOCK - self.header.len()).min(bytes.len());
        self.header.extend_from_slice(&bytes[..now]);
        if self.header.len() == BLOCK {
            let block = std::mem::replace(&mut self.header, Vec::with_capacity(BLOCK));
            if block.iter().all(|byte| *byte == 0) {
                self.place = Place::Ended;
            } else {
                self.begin(Header::from_byte_slice(&block))?;
            }
        }
        Ok(&bytes[now..])
    }

    fn begin(&mut self, header: &Header) -> Result<(), Broke> {
        let summed = header.as_bytes().iter().enumerate().map(|(at, byte)| match at {
            148..156 => u32::from(b' '),
            _ => u32::from(*byte),
        });
        if header.cksum().ok() != Some(summed.sum()) {
            return Err(bad("a member's header is damaged"));
        }
        let inner = clean_path(&header.path_bytes())?;
        let size = header.entry_size().map_err(|_| bad(&format!("the size of `{inner}` cannot be read")))?;
        let path = match self.tablespace {
            Some(oid) => format!("pg_tblspc/{oid}/{inner}"),
            None => inner.clone(),
        };
        if self.manifest_seen {
            return Err(bad(&format!("`{path}` follows backup_manifest")));
        }
        match header.entry_type() {
            EntryType::Regular => {
                if path == "tablespace_map" && size > 0 {
                    return Err(Broke::hinted(
                        "a tablespace was made while the backup began",
                        "take the backup again: it will be read tablespace by tablespace",
                    ));
                }
                let keep = match path.as_str() {
                    LABEL => Keep::Label,
                    MANIFEST => Keep::Manifest,
                    _ => Keep::Nothing,
                };
                self.announce(header.clone(), path.clone(), MemberKind::File)?;
                if let Some(pages) = &mut self.pages {
                    pages.begin(&path);
                }
                self.place = Place::Data { left: size, padding: padding_after(size), keep };
                if size == 0 { self.end_member(0, keep) } else { Ok(()) }
            }
            EntryType::Directory if size == 0 => self.announce(header.clone(), path, MemberKind::Folder),
            EntryType::Symlink if size == 0 => {
                let oid = path.strip_prefix("pg_tblspc/").and_then(|oid| oid.parse().ok());
                let oid = oid.ok_or_else(|| bad(&format!("`{path}` is a link; only tablespaces may be links")))?;
                self.links.insert(oid);
                Ok(())
            }
            other => Err(bad(&format!("`{path}` is neither a file nor a folder ({other:?})"))),
        }
    }

    /// Writes the header and tells the sink about the member.
    fn announce(&mut self, mut header: Header, path: String, kind: MemberKind) -> Result<(), Broke> {
        name(&mut header, &path, kind)?;
        let unreadable = |_| bad(&format!("the header of `{path}` cannot be read"));
        let (mode, size) = (header.mode().map_err(unreadable)? & 0o777, header.entry_size().map_err(unreadable)?);
        self.sink.write(header.as_bytes())?;
        self.members += 1;
        self.sink.member(Member { path, kind, mode, size })
    }

    fn take_data<'b>(&mut self, bytes: &'b [u8], left: u64, padding: usize, keep: Keep) -> Result<&'b [u8], Broke> {
        let now = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let (data, rest) = bytes.split_at(now);
        self.sink.write(data)?;
        match keep {
            Keep::Nothing => {}
            Keep::Label if self.label.len() + now > LABEL_AT_MOST => return Err(bad("its backup_label is too long")),
            Keep::Label => self.label.extend_from_slice(data),
            Keep::Manifest => keep_tail(&mut self.manifest_tail, data),
        }
        if let Some(pages) = &mut self.pages {
            pages.pass(data);
        }
        let left = left - now as u64;
        if left == 0 {
            self.end_member(padding, keep)?;
        } else {
            self.place = Place::Data { left, padding, keep };
        }
        Ok(rest)
    }

    fn end_member(&mut self, padding: usize, keep: Keep) -> Result<(), Broke> {
        if let Some(pages) = &mut self.pages {
            pages.end();
        }
        self.manifest_seen |= keep == Keep::Manifest;
        self.place = if padding == 0 { Place::Header } else { Place::Padding(padding) };
        Ok(())
    }
}

/// Writes the member's path into its header, and then the header's sum.
pub(super) fn name(header: &mut Header, path: &str, kind: MemberKind) -> Result<(), Broke> {
    let written = if kind == MemberKind::Folder { format!("{path}/") } else { path.to_owned() };
    // ustar splits long names over two fields; PostgreSQL's own are short, so that is for the tablespace's prefix.
    let raw = header.as_mut_bytes();
    raw[..100].fill(0);
    raw[345..500].fill(0);
    header.set_path(&written).map_err(|error| bad(&format!("`{path}` does not fit into a tar header: {error}")))?;
    header.set_cksum();
    Ok(())
}

/// Zeros between a member's data and the next header.
pub(super) fn padding_after(size: u64) -> usize {
    // The remainder of a division by 512 fits; a size is whatever a server wrote, up to the last of all numbers.
    (BLOCK - (size % BLOCK as u64) as usize) % BLOCK
}

fn keep_tail(tail: &mut Vec<u8>, data: &[u8]) {
    tail.extend_from_slice(data);
    // Cut only now and then, so that the cost stays linear.
    if tail.len() > 4 * MANIFEST_TAIL {
        tail.drain(..tail.len() - MANIFEST_TAIL);
    }
}

/// A relative path without `.`, `..` and empty segments; anything else is refused.
fn clean_path(bytes: &[u8]) -> Result<String, Broke> {
    let shown = String::from_utf8_lossy(bytes).into_owned();
    let text = std::str::from_utf8(bytes).map_err(|_| not_utf8(&shown))?;
    let text = text.strip_prefix("./").unwrap_or(text);
    let text = text.strip_suffix('/').unwrap_or(text);
    let good = !text.is_empty()
        && !text.contains('\0')
        && text.split('/').all(|segment| !segment.is_empty() && segment != "." && segment != "..");
    if good { Ok(text.to_owned()) } else { Err(bad(&format!("`{shown}` is not a path inside the data folder"))) }
}

/// A member's path is text in the manifest.
pub(super) fn not_utf8(shown: &str) -> Broke {
    Broke::hinted(
        format!("the source's data folder holds a file with a name that is not UTF-8: `{shown}`"),
        "PostgreSQL makes no such names: rename or remove the file",
    )
}

fn bad(why: &str) -> Broke {
    Broke::hinted(
        format!("the base backup that the source sent is not usable: {why}"),
        "take it again; if it happens twice, look at the source's log and at what is between it and lifeboat",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_size_has_a_padding() {
        for (size, padding) in [(0, 0), (1, 511), (511, 1), (512, 0), (513, 511), (u64::MAX, 1)] {
            assert_eq!(padding_after(size), padding, "{size}");
        }
    }
}
