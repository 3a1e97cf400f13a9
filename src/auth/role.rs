//! The names of all roles.
//!
//! Tenants choose the names of queues and stores, and each name makes roles of its own. None of these may mean
//! something elsewhere: a worker of a queue named `job` would be a `job_worker`, to whom every job is shown. So every
//! role is named here, and nowhere else.
//!
//! | role | opens |
//! | --- | --- |
//! | `system_admin` | everything |
//! | `system_writer`, `queue_writer` | every queue that keeps the general roles: push, read, delete, work |
//! | `queue_admin` | definitions and handlers of queues |
//! | `<queue>_writer`, `<queue>_worker` | one queue: push, read, delete and work; work alone |
//! | `hub_admin`, `hub_writer`, `hub_reader` | every store: define, push, read |
//! | `<store>_hub_admin`, `<store>_hub_writer`, `<store>_hub_reader` | one store, likewise |
//! | `admin`, `customer_agent`, `cardholder_agent`, `job_worker` | the job channels |
//! | `report_reader`, `metrics_reader` | reports, metrics |

/// May do everything.
pub const SYSTEM_ADMIN: &str = "system_admin";
/// Pushes to every queue that keeps the general roles.
pub const SYSTEM_WRITER: &str = "system_writer";
/// Pushes to every queue that keeps the general roles.
pub const QUEUE_WRITER: &str = "queue_writer";
/// Defines queues and handlers, which is to run code.
pub const QUEUE_ADMIN: &str = "queue_admin";
/// Defines what every store has.
pub const HUB_ADMIN: &str = "hub_admin";
/// Pushes to every store.
pub const HUB_WRITER: &str = "hub_writer";
/// Looks at every store.
pub const HUB_READER: &str = "hub_reader";
/// May do everything with jobs.
pub const ADMIN: &str = "admin";
/// Creates jobs for others, and follows any.
pub const CUSTOMER_AGENT: &str = "customer_agent";
/// Creates jobs, and follows its own.
pub const CARDHOLDER_AGENT: &str = "cardholder_agent";
/// Does the work of jobs.
pub const JOB_WORKER: &str = "job_worker";
/// Reads the reports.
pub const REPORT_READER: &str = "report_reader";
/// Reads the metrics.
pub const METRICS_READER: &str = "metrics_reader";

/// The roles that no name makes.
const FIXED: [&str; 13] = [
    SYSTEM_ADMIN,
    SYSTEM_WRITER,
    QUEUE_WRITER,
    QUEUE_ADMIN,
    HUB_ADMIN,
    HUB_WRITER,
    HUB_READER,
    ADMIN,
    CUSTOMER_AGENT,
    CARDHOLDER_AGENT,
    JOB_WORKER,
    REPORT_READER,
    METRICS_READER,
];

/// The last word of the role of one store that defines what it has.
pub const STORE_ADMIN: &str = "admin";
/// The last word of the role of one store that pushes to it.
pub const STORE_WRITER: &str = "writer";
/// The last word of the role of one store that looks at it.
pub const STORE_READER: &str = "reader";

/// Names that belong to Postrider itself, whatever they are given to.
const OWN: [&str; 4] = ["system", "queue", "hub", "job"];

/// The role that pushes to this queue, reads and deletes its messages, and works for it.
pub fn queue_writer(queue: &str) -> String {
    format!("{queue}_writer")
}

/// The role that works for this queue.
pub fn queue_worker(queue: &str) -> String {
    format!("{queue}_worker")
}

/// The role of this store that ends in this word.
pub fn of_store(store: &str, word: &str) -> String {
    format!("{store}_hub_{word}")
}

/// The store of which this is a role.
pub fn store_of(role: &str) -> Option<&str> {
    let words = [STORE_ADMIN, STORE_WRITER, STORE_READER];
    let name = words.into_iter().find_map(|word| role.strip_suffix(word)?.strip_suffix("_hub_"))?;
    (!name.is_empty()).then_some(name)
}

/// Whether a queue may have this name, as far as its roles go.
///
/// # Errors
/// Why not, as the end of a sentence about the name.
pub fn check_queue(name: &str) -> Result<(), &'static str> {
    check_own(name)?;
    let roles = [queue_writer(name), queue_worker(name)];
    if roles.iter().any(|role| FIXED.contains(&role.as_str())) {
        return Err("is reserved: a role of its own would be one of Postrider's");
    }
    // `<store>_hub` and `_writer` make the role of a store's writers.
    if name.ends_with("_hub") {
        return Err("must not end in _hub: its writers' role would be that of a store of the hub");
    }
    Ok(())
}

/// Whether a store or a job type may have this name, as far as roles go.
///
/// # Errors
/// Why not, as the end of a sentence about the name.
pub fn check_own(name: &str) -> Result<(), &'static str> {
    if OWN.contains(&name) {
        return Err("is reserved: roles that begin with it are Postrider's own");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of_a_queue(name: &str) -> Vec<String> {
        vec![queue_writer(name), queue_worker(name)]
    }

    fn of_a_store(name: &str) -> Vec<String> {
        [STORE_ADMIN, STORE_WRITER, STORE_READER].map(|word| of_store(name, word)).into()
    }

    /// Names that look for trouble: made of the words of which roles are made.
    fn names() -> impl Strategy<Value = String> {
        let word = "system|queue|hub|job|admin|writer|worker|reader|agent|report|customer|s|[A-Za-z0-9]{1,3}";
        proptest::collection::vec((word, "[_.-]|"), 1..5).prop_map(|words| {
            let text: String = words.into_iter().map(|(word, join)| word + &join).collect();
            text.trim_end_matches(['_', '.', '-']).to_owned()
        })
    }

    #[test]
    fn names_of_which_a_role_would_mean_something_elsewhere_are_refused() {
        for name in ["system", "queue", "hub", "job", "s1_hub", "a_hub_hub", "queue_hub"] {
            assert!(check_queue(name).is_err(), "{name}");
        }
        for name in ["jobs", "myhub", "hub_", "s1_hub_x", "admin", "Job", "system_admin", "metrics"] {
            assert_eq!(check_queue(name), Ok(()), "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_name_makes_a_role_that_another_feature_reads(
            queue in names(), other in names(), store in names(), another in names(),
        ) {
            prop_assume!(check_queue(&queue).is_ok() && check_queue(&other).is_ok());
            prop_assume!(check_own(&store).is_ok() && check_own(&another).is_ok());
            for role in of_a_queue(&queue) {
                prop_assert!(!FIXED.contains(&role.as_str()), "{} of the queue {}", role, queue);
                prop_assert!(!of_a_store(&store).contains(&role), "{} of {} and {}", role, queue, store);
                prop_assert!(queue == other || !of_a_queue(&other).contains(&role), "{} and {}", queue, other);
            }
            for role in of_a_store(&store) {
                prop_assert!(!FIXED.contains(&role.as_str()), "{} of the store {}", role, store);
                prop_assert!(store == another || !of_a_store(&another).contains(&role), "{} and {}", store, another);
            }
        }
    }
}
