//! The bench's own arithmetic, tested: `cargo test --test bench`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(dead_code, reason = "the tests need a part of each file")]
#![expect(clippy::cast_precision_loss, reason = "figures are rounded when they are shown")]
#![expect(clippy::print_stdout, reason = "the table is printed")]

mod client;
mod measure;
mod processes;
mod table;

use client::read_head;
use measure::{Measure, Unit, median, summarize};
use processes::Stat;
use table::shown;

#[test]
fn a_head_gives_status_and_length() {
    assert_eq!(read_head(b"HTTP/1.1 201 Created\r\nContent-Length: 12\r\nx: y").unwrap(), (201, 12));
    assert_eq!(read_head(b"HTTP/1.1 204 No Content").unwrap(), (204, 0));
    assert!(read_head(b"").is_err());
}

#[test]
fn repeats_come_to_medians_and_their_ratio() {
    let repeat = |value: f64, raw: f64, wal: f64| {
        vec![
            Measure::new("a", Unit::PerSecond, value).beside("raw", raw).with("WAL", Unit::Bytes, wal),
            Measure::new("b", Unit::Count, 1.0),
        ]
    };
    let rows =
        summarize("drain", &[repeat(30.0, 90.0, 1.0), repeat(10.0, 100.0, 3.0), repeat(50.0, 60.0, 2.0)]);
    assert_eq!(rows.len(), 2);
    let row = &rows[0];
    assert_eq!((row.median, row.min, row.max), (30.0, 10.0, 50.0));
    let beside = row.beside.as_ref().map(|beside| (beside.median, beside.ratio));
    assert_eq!(beside, Some((90.0, 30.0 / 90.0)));
    assert_eq!(row.details.first().map(|detail| detail.median), Some(2.0));
    assert!(rows[1].beside.is_none());
}

#[test]
fn the_median_of_an_even_number_lies_between_two() {
    assert!((2.4..2.6).contains(&median(&[4.0, 1.0, 3.0, 2.0])));
}

#[test]
fn a_programs_name_may_hold_anything() {
    let text = "7 (a) b 9) S 42 7 7 0 -1 4194304 1 2 3 4 150 50 25 75 20 0 1 0";
    assert_eq!(Stat::parse(text), Some(Stat { parent: 42, own: 2.0, ended_children: 1.0 }));
}

#[test]
fn numbers_have_as_many_digits_as_say_something() {
    assert_eq!(shown(1_234_567.4, Unit::PerSecond), "1,234,567/s");
    assert_eq!(shown(711.3, Unit::Bytes), "711 B");
    assert_eq!(shown(0.554, Unit::Milliseconds), "0.55 ms");
    assert_eq!(shown(64.26, Unit::Mebibytes), "64.3 MiB");
    assert_eq!(shown(1000.0, Unit::Count), "1,000");
    assert_eq!(shown(f64::NAN, Unit::PerSecond), "–/s");
}
