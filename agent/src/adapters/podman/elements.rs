//! Answers of any size: a JSON array of objects, or one object, is parsed as a stream, and only the
//! requested fields of each object are kept.
//!
//! What an image's author writes into labels appears in every list of containers and images.
//! Reading such a list whole needs a size limit, and one image could exceed it for all apps of the
//! host. Here memory is bounded by what is kept of one object, regardless of the object's size, and
//! time by the call's deadline. Deserializing from a stream with serde was rejected: it only reads
//! from blocking readers, and would hold each object's labels in memory just to discard them.

use serde::de::DeserializeOwned;

/// What is kept of one object of a list, in bytes: beyond that it is only counted.
const MAX_KEPT: usize = 256 * 1024;

/// What is kept of the strings of [`Keep::Strings`], in bytes: beyond that they are left out.
const MAX_STRINGS: usize = 64 * 1024;

/// Longer strings are left out of [`Keep::Strings`]: no image name is that long.
const MAX_STRING: usize = 1024;

/// Longer than any key that is requested.
const MAX_KEY: usize = 64;

/// Nesting depth; Podman's lists have five levels.
const MAX_DEPTH: u32 = 64;

/// A field that is kept.
#[derive(Debug, Clone, Copy)]
pub(super) enum Keep {
    /// With its whole value.
    Whole(&'static str),
    /// Its value is an object, of which these keys are kept.
    Keys(&'static str, &'static [&'static str]),
    /// Its value is an array of strings, of which those with the reader's prefix are kept.
    Strings(&'static str),
}

#[derive(Debug)]
pub(super) struct Element {
    kept: Vec<u8>,
    whole: bool,
    /// Its bytes in the answer.
    pub(super) bytes: u64,
}

impl Element {
    /// The requested fields; `None` if they alone are too large.
    pub(super) fn decode<T: DeserializeOwned>(&self) -> Option<Result<T, serde_json::Error>> {
        self.whole.then(|| serde_json::from_slice(&self.kept))
    }

    /// Its field `Id`, if it came before the part that was too large.
    pub(super) fn id(&self) -> Option<String> {
        let kept = String::from_utf8_lossy(&self.kept);
        let (_, rest) = kept.split_once(r#""Id":""#)?;
        let (id, _) = rest.split_once('"')?;
        Some(id.chars().filter(char::is_ascii_alphanumeric).take(64).collect())
    }
}

/// The answer is not the expected array of objects, or single object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("expected an object at byte {0}")]
    Unexpected(u64),
    #[error("nested too deeply")]
    TooDeep,
    #[error("unexpected end")]
    CutOff,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Before the only object.
    One,
    /// Before the array; Go writes `null` for an empty one.
    Begin,
    Null(u8),
    /// After `[`: an object or the end.
    First,
    /// After `,`.
    Next,
    Inside,
    Between,
    End,
}

/// Where the reader is among the fields of an object it selects from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Key,
    Value,
}

/// What is kept of the next value, if it is of the right kind.
#[derive(Debug, Clone, Copy)]
enum Promise {
    /// These keys of an object.
    Keys(&'static [&'static str]),
    /// Some strings of an array.
    Strings,
}

/// A string being read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Text {
    escaped: bool,
    /// It is a key to select by.
    is_key: bool,
}

/// Parses an answer chunk by chunk.
#[derive(Debug)]
pub(super) struct Reader {
    keep: &'static [Keep],
    /// Prefix of the strings kept by [`Keep::Strings`].
    prefix: Vec<u8>,
    most_kept: usize,
    stage: Stage,
    /// The stage after an object.
    after: Stage,
    read: u64,
    depth: u32,
    /// The string being read.
    string: Option<Text>,
    key: Vec<u8>,
    at: At,
    promised: Option<Promise>,
    /// The reader is in an object of which these keys are kept.
    chosen: Option<&'static [&'static str]>,
    /// The reader is in an array of which some strings are kept.
    sifts: bool,
    /// The part read so far of a string of that array, while it may still match.
    candidate: Option<Vec<u8>>,
    /// Bytes of those found.
    strings: usize,
    /// A value is being copied: of a field at this depth.
    copies: Option<u32>,
    began: u64,
    kept: Vec<u8>,
    whole: bool,
    comma: bool,
}

impl Reader {
    /// For an array of objects.
    pub(super) fn new(keep: &'static [Keep]) -> Self {
        Self {
            keep,
            prefix: Vec::new(),
            most_kept: MAX_KEPT,
            stage: Stage::Begin,
            after: Stage::Between,
            read: 0,
            depth: 0,
            string: None,
            key: Vec::new(),
            at: At::Key,
            promised: None,
            chosen: None,
            sifts: false,
            candidate: None,
            strings: 0,
            copies: None,
            began: 0,
            kept: Vec::new(),
            whole: true,
            comma: false,
        }
    }

    /// For one object, of which `most_kept` bytes are kept; of its [`Keep::Strings`], those with
    /// `prefix`, which must not need JSON escaping.
    pub(super) fn one(keep: &'static [Keep], prefix: String, most_kept: usize) -> Self {
        let (stage, after) = (Stage::One, Stage::End);
        Self { prefix: prefix.into_bytes(), most_kept, stage, after, ..Self::new(keep) }
    }

    /// Consumes the next bytes, and passes on each object that ends in them.
    pub(super) fn feed<E: From<Malformed>>(
        &mut self,
        bytes: &[u8],
        each: &mut impl FnMut(Element) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            if self.string == Some(Text::default())
                && self.copies.is_none()
                && self.candidate.is_none()
            {
                // Nearly all of a hostile answer is this: text that nobody asked for.
                let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'));
                let plain = plain.unwrap_or(rest.len());
                if plain > 0 {
                    self.read += plain as u64;
                    rest = rest.get(plain..).unwrap_or_default();
                    continue;
                }
            }
            self.read += 1;
            rest = after;
            if self.stage == Stage::Inside {
                if let Some(element) = self.inside(byte)? {
                    each(element)?;
                }
            } else {
                self.outside(byte)?;
            }
        }
        Ok(())
    }

    /// The answer has ended.
    pub(super) fn finish(&self) -> Result<(), Malformed> {
        if self.stage == Stage::End { Ok(()) } else { Err(Malformed::CutOff) }
    }

    fn outside(&mut self, byte: u8) -> Result<(), Malformed> {
        if byte.is_ascii_whitespace() && !matches!(self.stage, Stage::Null(_)) {
            return Ok(());
        }
        self.stage = match (self.stage, byte) {
            (Stage::Begin, b'[') => Stage::First,
            (Stage::Begin, b'n') => Stage::Null(1),
            (Stage::Null(1), b'u') => Stage::Null(2),
            (Stage::Null(2), b'l') => Stage::Null(3),
            (Stage::Null(3), b'l') | (Stage::First | Stage::Between, b']') => Stage::End,
            (Stage::Between, b',') => Stage::Next,
            (Stage::One | Stage::First | Stage::Next, b'{') => {
                (self.depth, self.at, self.began) = (1, At::Key, self.read - 1);
                (self.whole, self.comma, self.strings) = (true, false, 0);
                self.kept = vec![b'{'];
                Stage::Inside
            }
            _ => return Err(Malformed::Unexpected(self.read - 1)),
        };
        Ok(())
    }

    /// Whether fields are selected at this depth.
    fn chooses(&self) -> bool {
        self.copies.is_none() && self.depth == if self.chosen.is_some() { 2 } else { 1 }
    }

    fn inside(&mut self, byte: u8) -> Result<Option<Element>, Malformed> {
        if let Some(text) = self.string {
            self.string = self.text(text, byte);
            return Ok(None);
        }
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {}
            b'"' => {
                let is_key = self.chooses() && self.at == At::Key;
                self.string = Some(Text { escaped: false, is_key });
                if is_key {
                    self.key.clear();
                }
                if self.sifts && self.depth == 2 {
                    self.candidate = Some(Vec::new());
                }
                self.copy(byte);
            }
            b'{' | b'[' => self.open(byte)?,
            b'}' | b']' => return Ok(self.close(byte)),
            b',' => {
                if self.copies == Some(self.depth) {
                    self.copies = None;
                }
                if self.chooses() {
                    (self.at, self.promised) = (At::Key, None);
                }
                self.copy(byte);
            }
            b':' if self.chooses() && self.at == At::Key => self.choose(),
            _ => self.copy(byte),
        }
        Ok(None)
    }

    /// The next byte of a string; the string's state after it, until it ends.
    fn text(&mut self, text: Text, byte: u8) -> Option<Text> {
        self.copy(byte);
        if byte == b'"' && !text.escaped {
            if let Some(string) = self.candidate.take() {
                self.keep_string(&string);
            }
            return None;
        }
        if let Some(string) = &mut self.candidate {
            let fits = self.prefix.get(string.len()).is_none_or(|wanted| *wanted == byte);
            string.push(byte);
            if !fits || string.len() > MAX_STRING {
                self.candidate = None;
            }
        }
        // Requested keys need no escapes, so a key with an escape is not one of them.
        if text.is_key && self.key.len() <= MAX_KEY {
            self.key.push(byte);
        }
        Some(Text { escaped: byte == b'\\' && !text.escaped, ..text })
    }

    fn open(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.chooses() {
            match (byte, self.promised.take()) {
                (b'{', Some(Promise::Keys(keys))) => {
                    self.name_field();
                    self.put(b"{");
                    (self.chosen, self.at, self.comma) = (Some(keys), At::Key, false);
                }
                (b'[', Some(Promise::Strings)) => {
                    self.name_field();
                    self.put(b"[");
                    (self.sifts, self.comma) = (true, false);
                }
                _ => {}
            }
        }
        self.copy(byte);
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(Malformed::TooDeep) } else { Ok(()) }
    }

    fn close(&mut self, byte: u8) -> Option<Element> {
        // The object that holds a copied scalar closes after it.
        if self.copies == Some(self.depth) {
            self.copies = None;
        }
        self.copy(byte);
        self.depth -= 1;
        if self.depth == 1 && self.chosen.take().is_some() {
            self.put(b"}");
            (self.comma, self.at) = (true, At::Value);
        }
        if self.depth == 1 && std::mem::take(&mut self.sifts) {
            self.put(b"]");
            self.comma = true;
        }
        if self.depth > 0 {
            return None;
        }
        self.put(b"}");
        self.promised = None;
        self.stage = self.after;
        let kept = std::mem::take(&mut self.kept);
        Some(Element { kept, whole: self.whole, bytes: self.read - self.began })
    }

    /// A key was read, its value follows.
    fn choose(&mut self) {
        self.at = At::Value;
        let key = self.key.as_slice();
        if let Some(keys) = self.chosen {
            if keys.iter().any(|wanted| wanted.as_bytes() == key) {
                self.begin_copy();
            }
            return;
        }
        let wanted = self.keep.iter().find(|keep| match keep {
            Keep::Whole(name) | Keep::Keys(name, _) | Keep::Strings(name) => name.as_bytes() == key,
        });
        match wanted {
            None => {}
            Some(Keep::Whole(_)) => self.begin_copy(),
            Some(Keep::Keys(_, keys)) => self.promised = Some(Promise::Keys(keys)),
            Some(Keep::Strings(_)) => self.promised = Some(Promise::Strings),
        }
    }

    fn begin_copy(&mut self) {
        self.name_field();
        self.copies = Some(self.depth);
    }

    /// A string with the wanted prefix, unless it is too short for that.
    fn keep_string(&mut self, string: &[u8]) {
        if string.len() < self.prefix.len() {
            return;
        }
        self.strings += string.len();
        // Leave room for the fields that follow.
        if self.strings > MAX_STRINGS {
            return;
        }
        if std::mem::replace(&mut self.comma, true) {
            self.put(b",");
        }
        self.put(b"\"");
        self.put(string);
        self.put(b"\"");
    }

    fn name_field(&mut self) {
        if std::mem::replace(&mut self.comma, true) {
            self.put(b",");
        }
        self.put(b"\"");
        let key = std::mem::take(&mut self.key);
        self.put(&key);
        self.put(b"\":");
        self.key = key;
    }

    fn copy(&mut self, byte: u8) {
        if self.copies.is_some() {
            self.put(&[byte]);
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        if self.kept.len() + bytes.len() <= self.most_kept {
            self.kept.extend_from_slice(bytes);
        } else {
            self.whole = false;
        }
    }
}

#[cfg(test)]
mod tests;
