//! Dates and times in stanzas: UTC with milliseconds. XEP-0082.

/// Milliseconds since 1970 as `2026-11-22T23:05:56.123Z`.
pub(crate) fn format(ms: u64) -> String {
    let (days, within) = (ms / 86_400_000, ms % 86_400_000);
    let (year, month, day) = date(i64::try_from(days).unwrap_or(0));
    let (hour, minute, second, milli) = (within / 3_600_000, within / 60_000 % 60, within / 1_000 % 60, within % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// A `dateTime` as milliseconds since 1970; what is before then is 0. `None` for anything else. [XEP-0082 §profiles-datetime]
pub(crate) fn parse(text: &str) -> Option<u64> {
    let (date, rest) = text.trim().split_once('T')?;
    let mut date = date.rsplitn(3, '-').map(str::parse::<i64>);
    let (day, month, year) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || !(-9_999..=9_999).contains(&year) {
        return None;
    }
    let zone_at = rest.find(['Z', '+', '-'])?;
    let (clock, zone) = rest.split_at(zone_at);
    let offset_minutes = match zone {
        "Z" => 0,
        zone => {
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            let minutes = hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?;
            if zone.starts_with('-') { -minutes } else { minutes }
        }
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let mut clock = clock.splitn(3, ':').map(str::parse::<i64>);
    let (hour, minute, second) = (clock.next()?.ok()?, clock.next()?.ok()?, clock.next()?.ok()?);
    if !(0..=23).contains(&hour) || !(0..=59).contains(&minute) || !(0..=60).contains(&second) {
        return None;
    }
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let millis: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    let minutes = (days(year, month, day) * 24 + hour) * 60 + minute - offset_minutes;
    Some(u64::try_from((minutes * 60 + second) * 1_000 + millis).unwrap_or(0))
}

/// Days since 1970 of a date of the Gregorian calendar, reckoned in years that begin in March.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let (year, month) = (year.rem_euclid(400), (month + 9) % 12);
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + year * 365 + year / 4 - year / 100 + day_of_year - 719_468
}

fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day = days.rem_euclid(146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let (day, month) = (day_of_year - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    (era * 400 + year + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read() {
        assert_eq!(format(1_795_388_756_123), "2026-11-22T23:05:56.123Z");
        assert_eq!(parse("2026-11-22T23:05:56.123Z"), Some(1_795_388_756_123));
        assert_eq!(parse("2026-11-23T00:05:56.1239+01:00"), Some(1_795_388_756_123));
        assert_eq!(parse("1969-07-21T02:56:15Z"), Some(0));
        assert_eq!(parse("2024-02-29T00:00:00Z").map(format).as_deref(), Some("2024-02-29T00:00:00.000Z"));
    }

    #[test]
    fn what_is_no_time_is_none() {
        for bad in [
            "",
            "now",
            "2026-11-22",
            "2026-13-01T00:00:00Z",
            "2026-11-22T25:00:00Z",
            "2026-11-22T23:05:56",
            "2026-11-22T23:05:56.Z",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
