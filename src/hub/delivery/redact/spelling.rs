//! Spellings of a text: escaped for JSON, for a URL, for HTML, one inside the other; in base64, and in hexadecimal digits.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use std::fmt::Write as _;

/// A text with its escapes undone, and for each byte where it stood in the source.
pub(super) struct View {
    pub(super) bytes: Vec<u8>,
    pub(super) from: Vec<usize>,
    pub(super) to: Vec<usize>,
}

/// What escapes are undone: at this place, what they stand for and how long they are.
type Undo = fn(&[u8]) -> Option<(Vec<u8>, usize)>;

/// How texts are written into others.
const WAYS: [Undo; 4] = [json, percent, form, html];
/// How many of these may be around each other: JSON in a string of JSON in a URL has three.
const LAYERS: usize = 3;

/// Calls `visit` with the text and with everything that it may be an escaped spelling of.
pub(super) fn each_view(text: &[u8], visit: &mut impl FnMut(&View)) {
    let whole =
        View { bytes: text.to_vec(), from: (0..text.len()).collect(), to: (1..=text.len()).collect() };
    descend(&whole, LAYERS, visit);
}

fn descend(view: &View, layers: usize, visit: &mut impl FnMut(&View)) {
    visit(view);
    if layers == 0 {
        return;
    }
    for undo in WAYS {
        if let Some(inner) = undone(view, undo) {
            descend(&inner, layers - 1, visit);
        }
    }
}

/// The view with one kind of escapes undone; `None` when it has none.
fn undone(view: &View, undo: Undo) -> Option<View> {
    let mut next = View { bytes: Vec::new(), from: Vec::new(), to: Vec::new() };
    let (mut at, mut changed) = (0, false);
    while at < view.bytes.len() {
        let (bytes, length) = match undo(&view.bytes[at..]) {
            Some(escape) => {
                changed = true;
                escape
            }
            None => (vec![view.bytes[at]], 1),
        };
        for byte in bytes {
            next.bytes.push(byte);
            next.from.push(view.from[at]);
            next.to.push(view.to[at + length - 1]);
        }
        at += length;
    }
    changed.then_some(next)
}

fn json(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    let unit = |at: usize| {
        let digits = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let plain = match text {
        [b'\\', b'b', ..] => 8,
        [b'\\', b'f', ..] => 12,
        [b'\\', b'n', ..] => b'\n',
        [b'\\', b'r', ..] => b'\r',
        [b'\\', b't', ..] => b'\t',
        [b'\\', b'u', ..] => {
            let units: Vec<u16> = unit(0).into_iter().chain(unit(6)).collect();
            let (first, length) = match char::decode_utf16(units.iter().copied()).next()? {
                Ok(first) => (first, 6 * first.len_utf16()),
                Err(_) => return None,
            };
            return Some((first.to_string().into_bytes(), length));
        }
        [b'\\', plain @ (b'"' | b'\\' | b'/' | b'\''), ..] => *plain,
        _ => return None,
    };
    Some((vec![plain], 2))
}

fn percent(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    let digits = std::str::from_utf8(text.strip_prefix(b"%")?.get(..2)?).ok()?;
    Some((vec![u8::from_str_radix(digits, 16).ok()?], 3))
}

fn form(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    if text.first() == Some(&b'+') { Some((vec![b' '], 1)) } else { percent(text) }
}

fn html(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    let end = text.iter().take(10).position(|byte| *byte == b';')?;
    let name = std::str::from_utf8(text[..end].strip_prefix(b"&")?).ok()?;
    let code = |digits: &str, radix| char::from_u32(u32::from_str_radix(digits, radix).ok()?);
    let meant = match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => ' ',
        _ => match name.strip_prefix('#')?.strip_prefix(['x', 'X']) {
            Some(digits) => code(digits, 16)?,
            None => code(&name[1..], 10)?,
        },
    };
    Some((meant.to_string().into_bytes(), end + 1))
}

/// What of a text is found in base64, wherever in the encoded whole it begins: in `login:password`, say.
pub(super) fn base64(secret: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for before in 0..3_usize {
        let padded = [vec![0; before], secret.to_vec()].concat();
        // Characters that hold bits of what stands before or after are not always the same.
        let (first, end) = ((before * 8).div_ceil(6), padded.len() * 8 / 6);
        for text in [STANDARD_NO_PAD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)] {
            found.extend(text.as_bytes().get(first..end).map(<[u8]>::to_vec));
        }
    }
    found.dedup();
    found
}

/// A text in hexadecimal digits.
pub(super) fn hex(secret: &[u8]) -> Vec<u8> {
    let digits = secret.iter().fold(String::with_capacity(secret.len() * 2), |mut digits, byte| {
        _ = write!(digits, "{byte:02x}");
        digits
    });
    digits.into_bytes()
}
