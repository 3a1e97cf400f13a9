//! Maps and sets by ids that we made ourselves: of lanes, leases, items. Nobody can choose them so that they collide,
//! and the standard hasher, which guards against that, took a twentieth of what a message costs the server.

use foldhash::fast::RandomState;

/// A map by ids.
pub type HashMap<K, V> = std::collections::HashMap<K, V, RandomState>;

/// A set of ids.
pub type HashSet<K> = std::collections::HashSet<K, RandomState>;
