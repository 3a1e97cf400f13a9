//! What bounds each table. A table that grows without end is a fault: whoever adds one says here, and in its comment
//! in the migration, what makes its rows go (`tests/house/bounds.rs`).
//!
//! | table | bounded by |
//! | --- | --- |
//! | `lanes` | the definitions of queues, job types, endpoints and pollers; a lane goes with its own. |
//! | `dispatch` | what waits to be claimed; rows of lanes that are gone are swept. |
//! | `scheduled` | what waits for its time; rows of lanes that are gone are swept. |
//! | `workers` | the processes that live; the rows of dead ones are deleted with the reclaim and by the upkeep. |
//! | `leases` | what runs; the last end of a lease deletes it, and the reclaim what dead workers held. |
//! | `lane_askers` | the lanes that remote workers have asked for; a row goes with its lane. |
//! | `duties` | the duties there are: one row each. |
//! | `catalog` | itself: one row. |
//! | `weeks` | the weeks that have partitions; a row goes with them. |
//! | `rates` | the lanes that had a rate limit; a row goes with its lane. |
//! | `grants` | what administrators grant; revoking deletes it. |
//! | `circuits` | the endpoints; a row goes with its lane. |
//! | `circuit_parts` | the services of mappings that fail; a row goes when its circuit closes, with its lane, and when no mapping names its service any more. |
//! | `series` | the mappings; a row goes with its mapping. |
//! | `lines` | lines that somebody stands in. |
//! | `line_waits` | what waits in lines. |
//! | `schedules` | the schedules of queues, mappings and pollers; a row goes with its own. |
//! | `ticks` | seven days after somebody saw to it. |
//! | `queues` | what administrators define; a row goes with its queue. |
//! | `queue_schedules` | what administrators define, a thousand a queue; they go with their queue. |
//! | `messages` | retention: weeks are dropped, what had to stay is deleted once its end is as old. |
//! | `outcomes` | retention, with the messages. |
//! | `attempts` | retention, with the messages. |
//! | `idempotency_keys` | retention: forgotten at the age at which messages go. |
//! | `unique_holders` | what holds a value; what does not any more is deleted within a day. |
//! | `job_types` | the definition files that were ever loaded. |
//! | `jobs` | POSTRIDER_JOB_RETENTION after their end. |
//! | `job_safes` | their job: they go when it ends. |
//! | `cardholders` | POSTRIDER_JOB_RETENTION and a day after their last job was created, if they have none any more. |
//! | `sdk_sessions` | 15 minutes after they were last used. |
//! | `job_idempotency_keys` | a day. |
//! | `broadcasts` | POSTRIDER_BROADCAST_RETENTION. |
//! | `registrations` | POSTRIDER_BROADCAST_RETENTION after the end of their job. |
//! | `envelopes` | their job: they go with it. |
//! | `stores` | the names that whoever has a role for them used. |
//! | `endpoints` | what is put; a row goes with its endpoint. |
//! | `endpoint_failures` | the endpoints with disable; a row goes with the next success, when the endpoint is put, and with its lane. |
//! | `parameters` | what is put, and the names that answers set. |
//! | `mappings` | what is put; a deleted one is kept until the weeks of its deliveries are gone. |
//! | `learned_parameters` | their mapping: they go when it is deleted, one row a name that its answers set. |
//! | `hub_messages` | 30 days: weeks are dropped, what had to stay is deleted with the last of its deliveries. |
//! | `hub_descendants` | 30 days after the last of them came. |
//! | `hub_idempotency_keys` | 30 days. |
//! | `deliveries` | 30 days after their end, with the messages; a parked one stays until somebody archives it. |
//! | `delivery_attempts` | their delivery: they go with it. |
//! | `delivered_identifiers` | 90 days. |
//! | `held_deliveries` | what waits for mappings that are switched off; switching on, or deleting the mapping, empties it. |
//! | `log_entries` | 30 days after they were last repeated. |
//! | `pollers` | what is put; a row goes with its poller. |
//! | `poller_bookmarks` | the collections that their poller has read; they go with it. |
//! | `poller_snapshots` | the records that their poller has seen, one row each; they go with it. |

/// Every table, with what bounds it.
pub const BOUNDS: &[(&str, &str)] = &[
    (
        "lanes",
        "the definitions of queues, job types, endpoints and pollers; a lane goes with its own, that of an endpoint a day later.",
    ),
    ("dispatch", "what waits to be claimed; rows of lanes that are gone are swept."),
    ("scheduled", "what waits for its time; rows of lanes that are gone are swept."),
    (
        "workers",
        "the processes that live; the rows of dead ones are deleted with the reclaim and by the upkeep.",
    ),
    ("leases", "what runs; the last end of a lease deletes it, and the reclaim what dead workers held."),
    ("lane_askers", "the lanes that remote workers have asked for; a row goes with its lane."),
    ("duties", "the duties there are: one row each."),
    ("catalog", "itself: one row."),
    ("weeks", "the weeks that have partitions; a row goes with them."),
    ("rates", "the lanes that had a rate limit; a row goes with its lane."),
    ("grants", "what administrators grant; revoking deletes it."),
    ("circuits", "the endpoints; a row goes with its lane."),
    (
        "circuit_parts",
        "the services of mappings that fail; a row goes when its circuit closes, with its lane, and when no mapping names its service any more.",
    ),
    ("series", "the mappings; a row goes with its mapping."),
    ("lines", "lines that somebody stands in."),
    ("line_waits", "what waits in lines."),
    ("schedules", "the schedules of queues, mappings and pollers; a row goes with its own."),
    ("ticks", "seven days after somebody saw to it."),
    ("queues", "what administrators define; a row goes with its queue."),
    ("queue_schedules", "what administrators define, a thousand a queue; they go with their queue."),
    ("messages", "retention: weeks are dropped, what had to stay is deleted once its end is as old."),
    ("outcomes", "retention, with the messages."),
    ("attempts", "retention, with the messages."),
    ("idempotency_keys", "retention: forgotten at the age at which messages go."),
    ("unique_holders", "what holds a value; what does not any more is deleted within a day."),
    ("job_types", "the definition files that were ever loaded."),
    ("jobs", "POSTRIDER_JOB_RETENTION after their end."),
    ("job_safes", "their job: they go when it ends."),
    (
        "cardholders",
        "POSTRIDER_JOB_RETENTION and a day after their last job was created, if they have none any more.",
    ),
    ("sdk_sessions", "15 minutes after they were last used."),
    ("job_idempotency_keys", "a day."),
    ("broadcasts", "POSTRIDER_BROADCAST_RETENTION."),
    ("registrations", "POSTRIDER_BROADCAST_RETENTION after the end of their job."),
    ("envelopes", "their job: they go with it."),
    ("stores", "the names that whoever has a role for them used."),
    ("endpoints", "what is put; a row goes with its endpoint."),
    (
        "endpoint_failures",
        "the endpoints with disable; a row goes with the next success, when the endpoint is put, and with its lane.",
    ),
    ("parameters", "what is put, and the names that answers set."),
    ("mappings", "what is put; a deleted one is kept until the weeks of its deliveries are gone."),
    ("learned_parameters", "their mapping: they go when it is deleted, one row a name that its answers set."),
    (
        "hub_messages",
        "30 days: weeks are dropped, what had to stay is deleted with the last of its deliveries.",
    ),
    ("hub_descendants", "30 days after the last of them came."),
    ("hub_idempotency_keys", "30 days."),
    (
        "deliveries",
        "30 days after their end, with the messages; a parked one stays until somebody archives it.",
    ),
    ("delivery_attempts", "their delivery: they go with it."),
    ("delivered_identifiers", "90 days."),
    (
        "held_deliveries",
        "what waits for mappings that are switched off; switching on, or deleting the mapping, empties it.",
    ),
    ("log_entries", "30 days after they were last repeated."),
    ("pollers", "what is put; a row goes with its poller."),
    ("poller_bookmarks", "the collections that their poller has read; they go with it."),
    ("poller_snapshots", "the records that their poller has seen, one row each; they go with it."),
];
