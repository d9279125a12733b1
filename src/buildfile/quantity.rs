//! Reads durations (`1h30m`), sizes (`1.5 GiB`) and dates (`2026-12-31`). They are exact: no floating point
//! numbers are involved.

use std::time::Duration;

use super::model::Date;

/// The error of reading a quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text is empty.
    #[error("the value is empty")]
    Empty,
    /// A unit has no number before it.
    #[error("a number is missing before `{0}`")]
    NoNumber(String),
    /// A number has no unit after it.
    #[error("the unit after `{0}` is missing")]
    NoUnit(String),
    /// The unit does not exist.
    #[error("`{0}` is not a unit")]
    UnknownUnit(String),
    /// The value is out of range.
    #[error("the value is too large")]
    TooLarge,
}

/// The units of a duration, in nanoseconds.
const TIMES: [(&str, u128); 6] = [
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3_600 * 1_000_000_000),
    ("d", 24 * 3_600 * 1_000_000_000),
    ("w", 7 * 24 * 3_600 * 1_000_000_000),
];

/// The longest duration, a hundred years.
const LONGEST: u128 = 36_525 * 24 * 3_600 * 1_000_000_000;

/// The units of a size, in bytes.
const SIZES: [(&str, u128); 10] = [
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// The help for a wrong duration.
pub const DURATION_HELP: &str =
    "write numbers with `ms`, `s`, `m`, `h`, `d` or `w`, such as \"10m\" or \"1h30m\"";
/// The help for a wrong size.
pub const SIZE_HELP: &str = "write a number with `B`, `KB`, `MB`, `GB`, `TB` or `KiB`, `MiB`, `GiB`, `TiB`, such as \"2 GiB\"";

/// Reads a duration such as `10m`, `1h30m`, `1.5 s` or `30d`.
pub fn duration(text: &str) -> Result<Duration, Error> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(Error::Empty);
    }
    let mut nanos = 0;
    while !rest.is_empty() {
        let (amount, after) = amount(rest, &TIMES)?;
        nanos += amount;
        if nanos > LONGEST {
            return Err(Error::TooLarge);
        }
        rest = after.trim_start();
    }
    u64::try_from(nanos)
        .map(Duration::from_nanos)
        .map_err(|_| Error::TooLarge)
}

/// Reads a size such as `2 GiB`, `500MB` or `1.5 GiB`, in bytes.
pub fn size(text: &str) -> Result<u64, Error> {
    let text = text.trim();
    if text.is_empty() {
        return Err(Error::Empty);
    }
    let (bytes, rest) = amount(text, &SIZES)?;
    if !rest.is_empty() {
        return Err(Error::UnknownUnit(rest.trim().to_owned()));
    }
    u64::try_from(bytes).map_err(|_| Error::TooLarge)
}

/// Reads a date as ISO 8601 writes it; `None` if the calendar has no such day.
pub fn date(text: &str) -> Option<Date> {
    let parts: Vec<&str> = text.trim().split('-').collect();
    let [year, month, day] = parts[..] else {
        return None;
    };
    let number = |text: &str, digits: usize| {
        let is_number = text.len() == digits && text.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| text.parse::<u16>().ok()).flatten()
    };
    let (year, month, day) = (number(year, 4)?, number(month, 2)?, number(day, 2)?);
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if year == 0 || !(1..=days).contains(&day) {
        return None;
    }
    Some(Date {
        year,
        month: u8::try_from(month).ok()?,
        day: u8::try_from(day).ok()?,
    })
}

/// Reads one number with its unit, and returns the rest of the text.
fn amount<'t>(text: &'t str, units: &[(&str, u128)]) -> Result<(u128, &'t str), Error> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, rest) = text.split_at(digits.unwrap_or(text.len()));
    let rest = rest.trim_start();
    let letters = rest.find(|c: char| !c.is_alphabetic());
    let (unit, after) = rest.split_at(letters.unwrap_or(rest.len()));
    if number.is_empty() || number.starts_with('.') {
        return Err(Error::NoNumber(text.to_owned()));
    }
    if unit.is_empty() {
        return Err(Error::NoUnit(number.to_owned()));
    }
    let known = units.iter().find(|(name, _)| *name == unit);
    let (_, factor) = known.ok_or_else(|| Error::UnknownUnit(unit.to_owned()))?;
    Ok((scaled(number, *factor)?, after))
}

/// Multiplies a decimal number by `factor`, rounding down.
fn scaled(number: &str, factor: u128) -> Result<u128, Error> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if fraction.is_empty() || fraction.contains('.') {
        return Err(Error::UnknownUnit(format!(".{fraction}")));
    }
    // More than 18 digits are too large before the point and too small after it.
    if whole.len() > 18 {
        return Err(Error::TooLarge);
    }
    let fraction = &fraction[..fraction.len().min(18)];
    let parse = |digits: &str| digits.parse::<u128>().map_err(|_| Error::TooLarge);
    let below_one = parse(fraction)? * factor / 10_u128.pow(fraction.len() as u32);
    Ok(parse(whole)? * factor + below_one)
}

#[cfg(test)]
mod tests {
    #[test]
    fn date_is_a_day_of_the_calendar() {
        let shown = |text: &str| super::date(text).map(|date| date.to_string());
        for good in ["2026-12-31", "2024-02-29", "2000-02-29", "0001-01-01"] {
            assert_eq!(shown(good).as_deref(), Some(good));
        }
        for bad in [
            "2026-02-29",
            "1900-02-29",
            "2026-13-01",
            "2026-00-10",
            "2026-04-31",
            "2026-4-3",
            "0000-01-01",
            "2026-12-00",
            "+026-12-01",
            "tomorrow",
            "",
        ] {
            assert_eq!(shown(bad), None, "{bad}");
        }
    }

    #[test]
    fn day_of_a_time_is_the_one_in_utc() {
        let shown = |seconds| super::Date::at(seconds).to_string();
        assert_eq!(shown(0), "1970-01-01");
        assert_eq!(shown(-1), "1969-12-31");
        assert_eq!(shown(951_782_400), "2000-02-29");
        assert_eq!(shown(1_798_761_599), "2026-12-31");
        assert_eq!(shown(1_798_761_600), "2027-01-01");
    }

    use super::*;

    #[test]
    fn durations_add_up_their_parts() {
        let ms = |text| duration(text).map(|d| d.as_millis());
        assert_eq!(ms("10m"), Ok(600_000));
        assert_eq!(ms("1h30m"), Ok(5_400_000));
        assert_eq!(ms("1 h 30 m"), Ok(5_400_000));
        assert_eq!(ms("500ms"), Ok(500));
        assert_eq!(ms("1.5s"), Ok(1_500));
        assert_eq!(ms("30d"), Ok(2_592_000_000));
        assert_eq!(ms("2w"), Ok(1_209_600_000));
        assert_eq!(ms("0s"), Ok(0));
    }

    #[test]
    fn bad_durations_name_their_mistake() {
        assert_eq!(duration(""), Err(Error::Empty));
        assert_eq!(duration("10"), Err(Error::NoUnit("10".into())));
        assert_eq!(duration("1h30"), Err(Error::NoUnit("30".into())));
        assert_eq!(duration("m"), Err(Error::NoNumber("m".into())));
        assert_eq!(duration("-1m"), Err(Error::NoNumber("-1m".into())));
        assert_eq!(duration("10 min"), Err(Error::UnknownUnit("min".into())));
        assert_eq!(duration("1..5s"), Err(Error::UnknownUnit("..5".into())));
        assert_eq!(duration("99999999999w"), Err(Error::TooLarge));
        assert_eq!(
            duration(&"9".repeat(1_000_000)),
            Err(Error::NoUnit("9".repeat(1_000_000)))
        );
        assert_eq!(
            duration(&format!("{}s", "9".repeat(99))),
            Err(Error::TooLarge)
        );
    }

    #[test]
    fn sizes_distinguish_powers_of_10_and_2() {
        assert_eq!(size("2 GiB"), Ok(2 << 30));
        assert_eq!(size("500MB"), Ok(500_000_000));
        assert_eq!(size("1.5 GiB"), Ok(3 << 29));
        assert_eq!(size("0B"), Ok(0));
        assert_eq!(size("2 GB 1"), Err(Error::UnknownUnit("1".into())));
        assert_eq!(size("2g"), Err(Error::UnknownUnit("g".into())));
        assert_eq!(size("2"), Err(Error::NoUnit("2".into())));
        assert_eq!(size("999999999 TiB"), Err(Error::TooLarge));
    }
}
