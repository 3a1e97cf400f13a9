//! How a storefront hands out a long list: in numbered pages, from a cursor on, by the address of the next page, or whole.

use crate::http::reader::Reader;
use serde_json::Value;
use url::Url;

/// How the pages of a list are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Paging {
    /// `none`: one answer holds everything.
    None,
    /// `page`: by number.
    Number {
        /// `parameter`: where the number is sent.
        parameter: String,
        /// `size`: where `page_size` is sent.
        size: String,
    },
    /// `cursor`: by what the answer before named.
    Cursor {
        /// `parameter`: where it is sent.
        parameter: String,
        /// `size`: where `page_size` is sent.
        size: String,
        /// `next`: the member of an answer that names it, or a path to one; null or absent on the last page.
        next: String,
    },
    /// `link`: by the address that the answer before named, in `Link: <…>; rel="next"` (RFC 8288) or in a member.
    Link {
        /// `size`: where `page_size` is sent.
        size: String,
        /// `next`: the member of an answer that names it, or a path to one; absent, the header does.
        next: Option<String>,
    },
}

/// Which page is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// The first.
    First,
    /// That of this number, from 1.
    Number(u64),
    /// What the answer before named: a cursor or an address.
    Next(String),
}

const PAGE: &str = "page";
const CURSOR: &str = "cursor";
const SIZE: &str = "per_page";
const NEXT: &str = "next_cursor";

impl Paging {
    /// `{"kind": "page" | "cursor" | "link" | "none", "parameter"?, "size"?, "next"?}`; absent, by number.
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let mut paging = Self::Number { parameter: PAGE.to_owned(), size: SIZE.to_owned() };
        reader.object("paging", |reader| {
            let kind = reader.required("kind", Reader::take).map(Value::as_str);
            let mut word = |name, absent: &str| reader.word(name).unwrap_or_else(|| absent.to_owned());
            match kind {
                Some(Some("page")) => {
                    paging = Self::Number { parameter: word("parameter", PAGE), size: word("size", SIZE) };
                }
                Some(Some("cursor")) => {
                    let (parameter, size) = (word("parameter", CURSOR), word("size", SIZE));
                    paging = Self::Cursor { parameter, size, next: word("next", NEXT) };
                }
                Some(Some("link")) => {
                    paging = Self::Link { size: word("size", SIZE), next: reader.word("next") };
                }
                Some(Some("none")) => paging = Self::None,
                Some(_) => reader.note("/kind", "enum", "must be page, cursor, link or none"),
                None => {}
            }
        });
        paging
    }

    /// Whether there can be more than one page.
    pub(super) fn has_pages(&self) -> bool {
        *self != Self::None
    }

    /// Whether an answer names the next page.
    pub(super) fn is_followed(&self) -> bool {
        matches!(self, Self::Cursor { .. } | Self::Link { .. })
    }

    /// The path to the member of an answer that names the next page, if one does.
    pub(super) fn next_member(&self) -> Option<&str> {
        match self {
            Self::Cursor { next, .. } => Some(next),
            Self::Link { next, .. } => next.as_deref(),
            Self::None | Self::Number { .. } => None,
        }
    }

    /// What a page is asked for by, for words about a storefront that does not know it.
    pub(super) fn parameter(&self) -> &str {
        match self {
            Self::Number { parameter, .. } | Self::Cursor { parameter, .. } => parameter,
            Self::None | Self::Link { .. } => "next",
        }
    }

    /// The address of a page, of a list whose address is `list`.
    ///
    /// # Errors
    /// The next page lies where no token is sent.
    pub(super) fn address(&self, mut list: Url, page_size: u16, place: &Place) -> Result<Url, String> {
        if let (Self::Link { .. }, Place::Next(next)) = (self, place) {
            let next = list.join(next).map_err(|_| "the address of the next page cannot be read")?;
            // The token goes where it belongs: to nobody else.
            let is_ours = next.origin() == list.origin() && next.username().is_empty();
            return if is_ours { Ok(next) } else { Err("the next page lies at another host".to_owned()) };
        }
        if let Some(size) = self.size() {
            let mut query = list.query_pairs_mut();
            match (self, place) {
                (Self::Number { parameter, .. }, Place::First) => _ = query.append_pair(parameter, "1"),
                (Self::Number { parameter, .. }, Place::Number(number)) => {
                    query.append_pair(parameter, &number.to_string());
                }
                (Self::Cursor { parameter, .. }, Place::Next(cursor)) => {
                    query.append_pair(parameter, cursor);
                }
                _ => {}
            }
            query.append_pair(size, &page_size.to_string());
        }
        Ok(list)
    }

    fn size(&self) -> Option<&str> {
        match self {
            Self::None => None,
            Self::Number { size, .. } | Self::Cursor { size, .. } | Self::Link { size, .. } => Some(size),
        }
    }
}

/// The target of `rel="next"` in a `Link` header (RFC 8288).
pub(super) fn next_link(header: &str) -> Option<String> {
    let mut rest = header;
    while let Some((_, after)) = rest.split_once('<') {
        let (target, parameters) = after.split_once('>')?;
        // The parameters of this link end where the next begins: behind a comma.
        let end = parameters.find('<').unwrap_or(parameters.len());
        let is_next = parameters[..end].trim_end_matches([',', ' ']).split(';').any(|parameter| {
            parameter.split_once('=').is_some_and(|(name, value)| {
                let mut words = value.trim().trim_matches('"').split_ascii_whitespace();
                name.trim().eq_ignore_ascii_case("rel") && words.any(|word| word.eq_ignore_ascii_case("next"))
            })
        });
        if is_next {
            return Some(target.to_owned());
        }
        rest = &parameters[end..];
    }
    None
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;

    #[test]
    fn the_next_link_is_found_among_others() {
        for (header, expected) in [
            (r#"<https://a.example/o?page=2>; rel="next""#, Some("https://a.example/o?page=2")),
            (r#"</o?page=1,1>; rel="first", </o?page=3>; title="a, b"; rel=next"#, Some("/o?page=3")),
            (r#"</o?page=3>; rel="last next""#, Some("/o?page=3")),
            (r#"</o?page=1>; rel="prev""#, None),
            ("nonsense", None),
            ("<", None),
        ] {
            assert_eq!(next_link(header).as_deref(), expected, "{header}");
        }
    }

    #[test]
    fn a_page_is_asked_for_as_the_storefront_wants_and_at_no_other_host() {
        let list = Url::parse("https://shop.example/api/orders?since=1").unwrap();
        let (parameter, size) = ("p".to_owned(), "n".to_owned());
        let number = Paging::Number { parameter: parameter.clone(), size: size.clone() };
        let cursor = Paging::Cursor { parameter, size: size.clone(), next: "meta.next".to_owned() };
        let link = Paging::Link { size, next: None };
        let next = |text: &str| Place::Next(text.to_owned());
        for (paging, place, expected) in [
            (&Paging::None, Place::First, "https://shop.example/api/orders?since=1"),
            (&number, Place::First, "https://shop.example/api/orders?since=1&p=1&n=50"),
            (&number, Place::Number(7), "https://shop.example/api/orders?since=1&p=7&n=50"),
            (&cursor, Place::First, "https://shop.example/api/orders?since=1&n=50"),
            (&cursor, next("a=&"), "https://shop.example/api/orders?since=1&p=a%3D%26&n=50"),
            (&link, Place::First, "https://shop.example/api/orders?since=1&n=50"),
            (&link, next("?after=9"), "https://shop.example/api/orders?after=9"),
            (&link, next("/v2/orders?x=1"), "https://shop.example/v2/orders?x=1"),
        ] {
            assert_eq!(paging.address(list.clone(), 50, &place).unwrap().as_str(), expected);
        }
        for elsewhere in
            ["https://other.example/", "http://shop.example/api", "https://u@shop.example/", "http://["]
        {
            assert!(link.address(list.clone(), 50, &next(elsewhere)).is_err(), "{elsewhere}");
        }
    }
}
