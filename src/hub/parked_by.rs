//! Which rule parks a delivery.

use utoipa::ToSchema;

/// The rule that parks a delivery, kept with it until somebody has it run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum ParkedBy {
    /// `max_attempts` of its mapping.
    MaxAttempts,
    /// `max_age` of its mapping.
    MaxAge,
    /// `retries_allowed` of its mapping.
    RetriesNotAllowed,
    /// Its endpoint would only answer the same again.
    FinalAnswer,
    /// Answers have brought its message back too often.
    Loop,
    /// Too many messages have come of one from outside.
    Descendants,
    /// Its mapping was deleted.
    MappingDeleted,
    /// Its message is not there any more.
    MessageGone,
    /// Somebody archived it before it was delivered.
    Archived,
    /// It was delivered, and is to be delivered again.
    Again,
}

impl ParkedBy {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::MaxAttempts => "max_attempts",
            Self::MaxAge => "max_age",
            Self::RetriesNotAllowed => "retries_not_allowed",
            Self::FinalAnswer => "final_answer",
            Self::Loop => "loop",
            Self::Descendants => "descendants",
            Self::MappingDeleted => "mapping_deleted",
            Self::MessageGone => "message_gone",
            Self::Archived => "archived",
            Self::Again => "again",
        }
    }
}
