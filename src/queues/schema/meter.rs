//! A message as a schema sees it: every look at it is counted, and past a budget there is nothing to see.
//!
//! How long a schema takes depends on the message too: an expression tree with three recursive branches
//! doubles or triples the work with each level of nesting, and whoever may push chooses the nesting. A
//! thread cannot be stopped, so the work itself ends: once the budget of looks or of stack is spent, every
//! node pretends to be `null` and every list to be at its end, the validator returns at once, and the caller
//! asks [`Meter::is_spent`] before it believes the answer.
//!
//! Nodes do not lend their values to errors either ([`Node::to_value`] returns `null`): an error inside `anyOf`
//! keeps a copy. One exception, which the validator asks for: where a match was given up, it looks up its place
//! in the whole message. So schemas with such patterns see that, and a copy's worth is counted each time.

use jsonschema::JsonType;
use jsonschema::json::{Array, Json, Node, NodeIdentity, Object, unique};
use serde_json::{Map, Number, Value};
use std::borrow::Cow;
use std::cell::Cell;

static NOTHING: Value = Value::Null;

/// What an error costs, in looks: it is kept, with its place, until the last is found.
const ERROR: u64 = 100;

/// What one validation may use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    /// Looks at the message: a type, a lookup, an item, 16 bytes of a string. Some 5 ns each.
    pub(super) looks: u64,
    /// Bytes of stack below the caller's frame.
    pub(super) stack: usize,
}

/// What a schema makes a look cost, in looks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Price {
    /// Of any look: more than 1 for a schema that does much between two of them.
    pub(super) look: u64,
    /// On top for a text: more than 0 for a schema with patterns beyond the linear-time engine.
    pub(super) text: u64,
}

/// What is left of a [`Budget`].
#[derive(Debug)]
pub(super) struct Meter {
    looks: Cell<u64>,
    price: Price,
    top: usize,
    stack: usize,
    // The address of the message if it is lent to errors, and what that costs.
    lent: Option<(usize, u64)>,
}

impl Meter {
    /// A meter for one validation on this thread.
    pub(super) fn new(budget: Budget, price: Price) -> Self {
        Self { looks: Cell::new(budget.looks), price, top: stack_pointer(), stack: budget.stack, lent: None }
    }

    /// The same, for a schema whose patterns may be given up in `message`.
    pub(super) fn lending(self, message: &Value) -> Self {
        Self { lent: Some((std::ptr::from_ref(message).addr(), 1 + size(message) / 64)), ..self }
    }

    /// Whether the budget is spent, so that the validator's answer means nothing.
    pub(super) fn is_spent(&self) -> bool {
        self.looks.get() == 0
    }

    #[inline]
    fn spend(&self, looks: u64) -> bool {
        let left = self.looks.get().saturating_sub(looks * self.price.look);
        let left = if self.top.abs_diff(stack_pointer()) > self.stack { 0 } else { left };
        self.looks.set(left);
        left > 0
    }
}

/// The address of a variable of this very frame: how deep the stack is, to the size of a frame.
#[inline]
fn stack_pointer() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(&here).addr()
}

/// How many bytes a copy of `value` takes, roughly.
fn size(value: &Value) -> u64 {
    let below = match value {
        Value::String(text) => text.len() as u64,
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(members) => {
            members.iter().map(|(name, value)| 32 + name.len() as u64 + size(value)).sum()
        }
        _ => 0,
    };
    32 + below
}

/// The representation that [`jsonschema::Validator`] is compiled for.
#[derive(Debug)]
pub(super) struct Metered;

/// A value of the message with the meter of this validation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look<'a> {
    value: &'a Value,
    // None for a property name: one string, counted when it was listed.
    meter: Option<&'a Meter>,
}

impl<'a> Look<'a> {
    /// The whole message.
    pub(super) fn new(value: &'a Value, meter: &'a Meter) -> Self {
        Self { value, meter: Some(meter) }
    }

    #[inline]
    fn at(&self, looks: u64) -> &'a Value {
        match self.meter {
            Some(meter) if !meter.spend(looks) => &NOTHING,
            _ => self.value,
        }
    }

    fn text(&self) -> Option<&'a str> {
        let Value::String(text) = self.value else { return self.at(1).as_str() };
        let extra = self.meter.map_or(0, |meter| meter.price.text);
        self.at(1 + extra + text.len() as u64 / 16).as_str()
    }
}

impl Json for Metered {
    type Node<'a> = Look<'a>;
    type PreparedKey = String;
    type StringBuffer = Value;

    // As for serde_json's own representation: its maps are trees, not hash tables.
    const KEYS_PER_LOOKUP: usize = 2;

    fn prepare_key(key: &str) -> String {
        key.to_owned()
    }

    fn with_string_node<T>(buffer: &mut Value, string: &str, f: impl FnOnce(Look<'_>) -> T) -> T {
        if let Value::String(text) = buffer {
            text.clear();
            text.push_str(string);
        } else {
            *buffer = Value::String(string.to_owned());
        }
        f(Look { value: buffer, meter: None })
    }
}

impl<'a> Node<'a, Metered> for Look<'a> {
    type Object = Members<'a>;
    type Array = Items<'a>;
    type Number = &'a Number;

    fn as_object(&self) -> Option<Members<'a>> {
        self.at(1).as_object().map(|map| Members { map, meter: self.meter })
    }

    fn as_array(&self) -> Option<Items<'a>> {
        self.at(1).as_array().map(|items| Items { items, meter: self.meter })
    }

    fn as_string(&self) -> Option<Cow<'a, str>> {
        self.text().map(Cow::Borrowed)
    }

    fn as_number(&self) -> Option<&'a Number> {
        if let Value::Number(number) = self.at(1) { Some(number) } else { None }
    }

    fn as_boolean(&self) -> Option<bool> {
        self.at(1).as_bool()
    }

    fn is_null(&self) -> bool {
        self.at(1).is_null()
    }

    fn json_type(&self) -> JsonType {
        match self.at(1) {
            Value::Null => JsonType::Null,
            Value::Bool(_) => JsonType::Boolean,
            Value::Number(_) => JsonType::Number,
            Value::String(_) => JsonType::String,
            Value::Array(_) => JsonType::Array,
            Value::Object(_) => JsonType::Object,
        }
    }

    fn equals_value(&self, expected: &Value) -> bool {
        jsonschema::json::cmp::equal(self.at(1), expected)
    }

    // Called once for each error, by the default of `lazy_value`.
    fn to_value(&self) -> Cow<'a, Value> {
        let Some(meter) = self.meter else { return Cow::Borrowed(&NOTHING) };
        let address = std::ptr::from_ref(self.value).addr();
        let lent = meter.lent.filter(|(message, _)| *message == address);
        meter.spend(ERROR + lent.map_or(0, |(_, copy)| copy));
        Cow::Borrowed(if lent.is_some() { self.value } else { &NOTHING })
    }

    fn identity(&self) -> Option<NodeIdentity> {
        Some(NodeIdentity::new(std::ptr::from_ref(self.value).addr()))
    }

    fn container_identity(&self) -> Option<NodeIdentity> {
        if self.value.is_object() || self.value.is_array() { self.identity() } else { None }
    }
}

/// An object of the message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Members<'a> {
    map: &'a Map<String, Value>,
    meter: Option<&'a Meter>,
}

impl<'a> Object<'a, Metered> for Members<'a> {
    type Node = Look<'a>;
    type MemberName = &'a str;
    type MembersIter = Counted<'a, serde_json::map::Iter<'a>>;

    fn len(&self) -> usize {
        self.map.len()
    }

    fn get(&self, key: &String) -> Option<Look<'a>> {
        if self.meter.is_some_and(|meter| !meter.spend(1)) {
            return None;
        }
        self.map.get(key.as_str()).map(|value| Look { value, meter: self.meter })
    }

    fn members(&self) -> Self::MembersIter {
        Counted { inner: self.map.iter(), meter: self.meter }
    }
}

/// An array of the message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Items<'a> {
    items: &'a [Value],
    meter: Option<&'a Meter>,
}

impl<'a> Array<'a, Metered> for Items<'a> {
    type Node = Look<'a>;
    type ElementsIter = Counted<'a, std::slice::Iter<'a, Value>>;

    fn len(&self) -> usize {
        self.items.len()
    }

    fn elements(&self) -> Self::ElementsIter {
        Counted { inner: self.items.iter(), meter: self.meter }
    }

    fn is_unique(&self) -> bool {
        let hashed = || self.items.iter().map(size).sum::<u64>() / 32;
        self.meter.is_none_or(|meter| meter.spend(1 + hashed())) && unique::is_unique(self.items)
    }
}

/// An iterator that ends early when the budget is spent.
#[derive(Debug)]
pub(super) struct Counted<'a, I> {
    inner: I,
    meter: Option<&'a Meter>,
}

impl<'a> Iterator for Counted<'a, serde_json::map::Iter<'a>> {
    type Item = (&'a str, Look<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, value) = self.inner.next()?;
        // Patterns may be matched with the name.
        let may_go_on = self.meter.is_none_or(|meter| meter.spend(1 + meter.price.text));
        may_go_on.then_some((name.as_str(), Look { value, meter: self.meter }))
    }
}

impl<'a> Iterator for Counted<'a, std::slice::Iter<'a, Value>> {
    type Item = Look<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let value = self.inner.next()?;
        let may_go_on = self.meter.is_none_or(|meter| meter.spend(1));
        may_go_on.then_some(Look { value, meter: self.meter })
    }
}
