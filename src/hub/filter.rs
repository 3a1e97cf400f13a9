//! Filters: what a message must be like, beside its key, for a mapping to take it.

/// The filters of a mapping.
#[derive(Debug, Clone, Default)]
pub struct Filters;

/// A path into a message, such as `payload.order.total` or `payload.items.*.sku`.
#[derive(Debug, Clone)]
pub struct Path;
