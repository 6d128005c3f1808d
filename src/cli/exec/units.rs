//! Times and sizes on the command line. No crate has both the numbers of timeout(1), such as `1.5`
//! and `0.5m`, and their units.

use std::time::Duration;

use proctable::abi::Signal;

/// A time, as for timeout(1): `5`, `0.5`, `150ms`, `30s`, `2m`, `1h`, `2d`. What is longer than a
/// [`Duration`] can be is the longest.
pub fn duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, f64); 5] =
        [("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86_400.0)];
    let unit = UNITS.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)));
    let (number, factor) = unit.unwrap_or((text, &1.0));
    let seconds = number.parse().map(|number: f64| number * factor);
    match seconds {
        Ok(seconds) if seconds >= 0.0 => {
            Ok(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
        }
        _ => Err("a time is a number with ms, s, m, h or d, for example 1.5h".into()),
    }
}

/// A size in bytes: `4096`; `64K`, `1.5GiB`, `2t` in powers of 1024; `100MB` in powers of 1000.
pub fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text[digits.len()..].to_ascii_uppercase();
    let (base, letter) = match unit.strip_suffix('B') {
        None => (1024.0, unit.strip_suffix('I').unwrap_or(&unit)),
        Some("") => (1.0, ""),
        Some(prefix) => match prefix.strip_suffix('I') {
            Some(letter) => (1024.0, letter),
            None => (1000.0, prefix),
        },
    };
    let power = ["", "K", "M", "G", "T", "P"].iter().position(|known| *known == letter);
    let wrong = || "a size is a number with K, M, G, T or P, for example 512M or 1.5GiB".to_owned();
    let power = power.ok_or_else(wrong)?;
    if let (0, Ok(number)) = (power, digits.parse::<u64>()) {
        return positive(number);
    }
    let number: f64 = digits.parse().map_err(|_| wrong())?;
    let size = number * f64::powi(base, power as i32);
    if size.is_nan() || size < 0.0 {
        return Err(wrong());
    }
    if size >= u64::MAX as f64 {
        Err("the size is above 2^64".into())
    } else {
        positive(size as u64)
    }
}

/// A size as a user writes it: in the largest unit of which it is a multiple.
pub fn show_bytes(size: u64) -> String {
    let mut shown = (size, "");
    for (power, unit) in [(10, "K"), (20, "M"), (30, "G"), (40, "T"), (50, "P")] {
        if size > 0 && size.is_multiple_of(1 << power) {
            shown = (size >> power, unit);
        }
    }
    let (number, unit) = shown;
    if unit.is_empty() { format!("{number} bytes") } else { format!("{number}{unit}") }
}

/// A signal by name or number, as for kill(1): `TERM`, `SIGTERM`, `15`, `RTMIN`, `RTMAX-1`.
pub fn signal(text: &str) -> Result<Signal, String> {
    let name = text.to_ascii_uppercase();
    let bare = name.strip_prefix("SIG").unwrap_or(&name);
    let number = text.parse().ok().and_then(Signal::new);
    let signal = number.or_else(|| realtime(bare)).or_else(|| Signal::from_name(&name));
    let known = signal.filter(|signal| ![32, 33].contains(&signal.number()));
    known.ok_or_else(|| "a signal is a name or a number, for example TERM, SIGINT or 15".into())
}

/// The real-time signals that the C library leaves to programs: it keeps 32 and 33 for itself, so
/// its SIGRTMIN is 34 (signal(7)).
fn realtime(name: &str) -> Option<Signal> {
    let (first, rest): (i32, &str) = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX"))
    {
        (Some(rest), _) => (34, rest),
        (_, Some(rest)) => (64, rest),
        _ => return None,
    };
    let offset: i32 = if rest.is_empty() { 0 } else { rest.parse().ok()? };
    Signal::new(first.saturating_add(offset)).filter(|signal| signal.number() >= 34)
}

fn positive(size: u64) -> Result<u64, String> {
    if size > 0 { Ok(size) } else { Err("no program can run in 0 bytes".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units_and_saturate() {
        let millis = |text: &str| duration(text).map(|time| time.as_millis());
        for (text, expected) in
            [("5", 5000), ("0.5", 500), ("150ms", 150), ("2m", 120_000), ("2d", 172_800_000)]
        {
            assert_eq!(millis(text), Ok(expected), "{text}");
        }
        for text in ["1e20", "inf", "1e300d"] {
            assert_eq!(duration(text), Ok(Duration::MAX), "{text}");
        }
        for text in ["", "s", "-1", "nan", "5x", "1 s", "ms"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_as_they_are_written() {
        for (size, shown) in [
            (30 << 20, "30M"),
            (1536 << 20, "1536M"),
            (1 << 40, "1T"),
            (100_000_000, "100000000 bytes"),
        ] {
            assert_eq!(show_bytes(size), shown);
        }
    }

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in [
            ("TERM", 15),
            ("SIGINT", 2),
            ("sigkill", 9),
            ("40", 40),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("rtmax-1", 63),
        ] {
            assert_eq!(signal(text).map(Signal::number), Ok(number), "{text}");
        }
        for text in ["", "0", "65", "32", "-1", "NONE", "RTMIN-1", "RTMAX+1", "RTMINx"] {
            assert!(signal(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_have_units() {
        for (text, expected) in [
            ("4096", 4096),
            ("64K", 64 << 10),
            ("64k", 64 << 10),
            ("1.5GiB", 3 << 29),
            ("2T", 2 << 40),
            ("2Ti", 2 << 40),
            ("100MB", 100_000_000),
            ("7B", 7),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for text in ["", "K", "-1", "0", "0.0001", "1X", "1KK", "1e40", "nan", "99999999P"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
