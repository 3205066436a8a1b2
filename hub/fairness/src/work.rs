//! How many seats a request takes.
//!
//! Guarantees:
//! - the more objects a list looks at, the more seats it takes, up to a bound (`a_list_takes_a_seat_for_each_hundred`).

/// Objects that are looked at for one seat.
pub const OBJECTS_PER_SEAT: usize = 100;
/// The most that a list takes.
pub const SEATS_MAX: usize = 10;
/// Beyond so many objects nobody need count.
pub const OBJECTS_COUNTED_MAX: usize = OBJECTS_PER_SEAT * SEATS_MAX;

/// Seats of a list of so many objects.
#[must_use]
pub fn of_list(objects: usize) -> u32 {
    u32::try_from(objects.div_ceil(OBJECTS_PER_SEAT).clamp(1, SEATS_MAX)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_takes_a_seat_for_each_hundred() {
        assert_eq!([0, 1, 100, 101, 999, 5_000].map(of_list), [1, 1, 1, 2, 10, 10]);
    }
}
