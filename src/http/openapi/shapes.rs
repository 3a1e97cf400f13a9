//! Schemas that no derive makes.

use utoipa::openapi::schema::{AnyOfBuilder, Object, ObjectBuilder, Type};
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// The schema of a member that is always `word`: by it one shape of several is told from the others.
pub fn tag(word: &str) -> Object {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some([word])).build()
}

/// One of two things, of which one may look like the other, too: `oneOf` would refuse that.
pub fn either<A: ToSchema, B: ToSchema>() -> RefOr<Schema> {
    let (one, other) = (Ref::from_schema_name(A::name()), Ref::from_schema_name(B::name()));
    Schema::from(AnyOfBuilder::new().item(one).item(other).build()).into()
}

/// The schemas that [`either`] names, and those that they name.
pub fn both<A: ToSchema, B: ToSchema>(schemas: &mut Vec<(String, RefOr<Schema>)>) {
    add::<A>(schemas);
    add::<B>(schemas);
}

fn add<T: ToSchema>(schemas: &mut Vec<(String, RefOr<Schema>)>) {
    schemas.push((T::name().into_owned(), <T as PartialSchema>::schema()));
    T::schemas(schemas);
}
