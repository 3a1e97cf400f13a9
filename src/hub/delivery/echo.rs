//! An answer that says the request back: frameworks, proxies and receivers under test do. What it says is no message.

use super::answer::{Answer, Child};
use crate::http::json_text::{members, to_value};
use crate::hub::delivery::request::Message;
use serde_json::Value;

/// Takes what repeats the request from an answer: `sent` is the document that was posted for `asked`.
pub(super) fn drop_echoes(answer: &mut Answer, asked: Message<'_>, sent: &[u8]) {
    let may_be = |child: &Child| child.key == asked.key && child.delay.is_zero() && child.parked.is_none();
    if !answer.children.iter().any(may_be) {
        return;
    }
    let stored = to_value(asked.payload.get());
    let posted = posted(sent);
    answer.children.retain(|child| {
        if !may_be(child) {
            return true;
        }
        // Compared as values: whoever has read it writes it with other spaces, and members in another order.
        let said = to_value(child.payload.get());
        said.is_none() || (said != stored && said != posted)
    });
}

/// The payload as it was posted, with what the mapping is sent.
fn posted(sent: &[u8]) -> Option<Value> {
    let document = serde_json::from_slice(sent).ok()?;
    let (_, payload) = members(document)?.into_iter().find(|(key, _)| key.get() == "\"payload\"")?;
    to_value(payload.get())
}
