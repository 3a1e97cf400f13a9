//! How much one run of a handler may use, and why that much.

use std::time::Duration;

/// Bytes of JavaScript heap, as QuickJS counts them. A message is at most 1 MiB by default; parsed, copied
/// and turned into text a few times over it stays well below this.
pub const HEAP: usize = 64 << 20;

/// Bytes of JavaScript stack: some 900 calls deep in plain recursion.
pub const STACK: usize = 512 << 10;

/// Bytes of the thread that runs JavaScript. QuickJS looks at [`STACK`] only here and there, so the real
/// stack is 16 times as large.
pub const THREAD_STACK: usize = 8 << 20;

/// Bytes of address space of a child (`RLIMIT_AS`): the heap, the thread, the binary with its libraries,
/// and the 64 MiB that the C library reserves for each thread's arena. It stops what QuickJS does not
/// count, such as the text of a result on its way out.
pub const ADDRESS_SPACE: u64 = 768 << 20;

/// Bytes of a result or of an error, as JSON: what a message may have by default.
pub const OUTCOME: usize = 1 << 20;

/// How deep a result or an error may nest: what a message may have. The database's own parser gives up some
/// thousand levels later, which would leave a message that can never be settled.
pub const DEPTH: usize = 128;

/// Lines of a message's log; they are stored with its attempt and read by people.
pub const LOG_LINES: usize = 1_000;

/// Bytes of a message's log.
pub const LOG_BYTES: usize = 64 << 10;

/// Bytes of one line of the log.
pub const LOG_LINE: usize = 8 << 10;

/// Calls of services by one message: a page of 100 entities, each read, changed and read again, thrice.
pub const CALLS: usize = 1_000;

/// Bytes of the arguments of one call, as JSON.
pub const ARGUMENTS: usize = 1 << 20;

/// Bytes of the answer to one call, as JSON. A sixteenth of the heap.
pub const ANSWER: usize = 4 << 20;

/// Timers set and not yet fired or cleared. Each holds memory that QuickJS does not count.
pub const TIMERS: usize = 10_000;

/// Bytes of one line from a child. A line holds an outcome and its log, each byte of which may become six
/// (`\u0000`); a child that writes more is broken.
pub const LINE: usize = 2 * OUTCOME + 8 * LOG_BYTES;

/// How long after its deadline a run that did not notice it is asked for its log.
pub const STOP_AFTER: Duration = Duration::from_millis(50);

/// How long after its deadline a run ends, by the death of its process.
pub const KILL_AFTER: Duration = Duration::from_millis(100);

/// The longest timeout there is, a year, so that no clock runs over.
pub const LONGEST: Duration = Duration::from_hours(24 * 365);

/// How long loading a handler may take when it is checked.
pub const CHECK: Duration = Duration::from_secs(1);
