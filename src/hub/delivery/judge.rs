//! What a reply comes to, with every secret blotted out.

use super::answer::{Answer, Child};
use super::echo::drop_echoes;
use super::linked::Parameter;
use super::redact::Redactor;
use super::request::Message;
use super::verdict::{Asked, Verdict, decide};
use crate::http::outbound::{Answer as Reply, Failure};
use crate::hub::definitions::endpoint::Endpoint;
use crate::hub::definitions::mapping::Mapping;
use crate::hub::key::Pattern;
use crate::hub::notices::log_entry::Note;
use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use url::Url;

/// How much of what is said to people is looked at; less is kept.
const SAID: usize = 40 << 10;
/// How much is kept of why it failed: where an endpoint points to may be long.
pub(super) const WHY: usize = 1 << 10;

/// Who was asked, by what mapping, and what was sent along.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judge<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) mapping: &'a Mapping,
    pub(super) parameters: &'a [Parameter],
    /// The endpoint as it is by now, if it is still there: what replaced its secrets meanwhile is hidden too.
    pub(super) newest: Option<&'a Endpoint>,
}

impl Judge<'_> {
    /// What the reply to this message, posted with this body, comes to, and what hides the rest of what may be kept of it.
    pub(super) fn decide(
        self,
        (message, posted): (Message<'_>, &[u8]),
        url: &Url,
        reply: &Result<Reply, Failure>,
        now: DateTime<Utc>,
    ) -> (Verdict, Redactor) {
        let options = &self.mapping.definition.options;
        let allowed: Option<&[Pattern]> = options.allow_responses.as_deref();
        let (ack, wire) = (self.mapping.ack(self.endpoint), self.endpoint.definition.wire);
        let asked = Asked { id: message.id, ack, wire, allowed, url, now };
        let mut read = reply.as_ref().map(|reply| (reply, Answer::read(&reply.body)));
        if let Ok((_, Ok(answer))) = &mut read {
            drop_echoes(answer, message, posted);
        }
        let redactor = self.redactor(match &read {
            Ok((_, Ok(answer))) => &answer.parameters,
            _ => &[],
        });
        let mut verdict = decide(asked, read);
        match &mut verdict {
            Verdict::Delivered(delivered) => {
                for child in &mut delivered.children {
                    hide_in_notification(child, &redactor);
                }
                hide_in_notes(&mut delivered.notes, &redactor);
            }
            Verdict::Deferred { notes, .. } => hide_in_notes(notes, &redactor),
            Verdict::Failed(failed) => {
                failed.error = redactor.beginning(failed.error.as_bytes(), WHY);
                hide_in_notes(&mut failed.notes, &redactor);
            }
        }
        (verdict, redactor)
    }

    /// What must not be kept of a reply: what was sent along, what signs, and what it brings to be sent from now on.
    fn redactor(&self, brought: &[(String, Box<RawValue>)]) -> Redactor {
        let mut redactor = Redactor::of(self.endpoint);
        if let Some(newest) = self.newest.filter(|newest| newest.version != self.endpoint.version) {
            redactor.hide_those_of(newest);
        }
        let sent = self.parameters;
        for parameter in sent {
            redactor.hide_value(&parameter.value, parameter.secret);
            parameter.former.iter().for_each(|former| redactor.hide_value(former, true));
        }
        for (name, value) in brought {
            let password = sent.iter().any(|parameter| parameter.name == *name && parameter.secret);
            redactor.hide_value(value, password);
        }
        redactor
    }
}

fn hide_in_notes(notes: &mut [Note], redactor: &Redactor) {
    for note in notes {
        let (kind, which) = &mut note.reference;
        for text in [&mut note.subject, &mut note.description].into_iter().chain(kind).chain(which) {
            *text = redactor.beginning(text.as_bytes(), SAID);
        }
    }
}

/// A notification is for people; other messages are for endpoints, which may need what is in them.
fn hide_in_notification(child: &mut Child, redactor: &Redactor) {
    if child.key.starts_with("notification:") {
        child.payload = redactor.json(std::mem::take(&mut child.payload));
    }
}
