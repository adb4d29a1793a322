//! Moments as text and back. All in UTC, as Hubble prints them. Reads no clock.

use prost_types::Timestamp;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/// 1 January 1970 was a Thursday.
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const SECONDS_PER_DAY: i64 = 86_400;

/// How a moment is printed; the names are Hubble's.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum TimeFormat {
    /// `Jan  2 15:04:05.000`
    #[default]
    #[value(name = "StampMilli")]
    StampMilli,
    /// `2006-01-02T15:04:05Z`
    #[value(name = "RFC3339")]
    Rfc3339,
    /// `2006-01-02T15:04:05.000Z`
    #[value(name = "RFC3339Milli")]
    Rfc3339Milli,
    /// `2006-01-02T15:04:05.000000Z`
    #[value(name = "RFC3339Micro")]
    Rfc3339Micro,
    /// `2006-01-02T15:04:05.000000000Z`
    #[value(name = "RFC3339Nano")]
    Rfc3339Nano,
    /// `Mon, 02 Jan 2006 15:04:05 +0000`
    #[value(name = "RFC1123Z")]
    Rfc1123Z,
}

/// A moment on the calendar.
struct Civil {
    year: i64,
    /// 1 to 12.
    month: usize,
    day: i64,
    /// Days since 1 January 1970.
    days: i64,
    second_of_day: i64,
    nanos: i64,
}

impl Civil {
    fn new(moment: &Timestamp) -> Self {
        let days = moment.seconds.div_euclid(SECONDS_PER_DAY);
        let (year, month, day) = date(days);
        Self {
            year,
            month,
            day,
            days,
            second_of_day: moment.seconds.rem_euclid(SECONDS_PER_DAY),
            nanos: i64::from(moment.nanos),
        }
    }

    fn month_name(&self) -> &'static str {
        MONTHS.get(self.month - 1).copied().unwrap_or("???")
    }

    fn clock(&self) -> String {
        let s = self.second_of_day;
        format!("{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
    }

    fn iso(&self, fraction: &str) -> String {
        let Self { year, month, day, .. } = self;
        format!("{year:04}-{month:02}-{day:02}T{}{fraction}Z", self.clock())
    }
}

/// Year, month and day of a number of days since 1970, in the proleptic Gregorian
/// calendar. Counted from 1 March 0000, so that leap days end a year; 400 years
/// have 146,097 days.
fn date(days: i64) -> (i64, usize, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month as usize, day)
}

impl TimeFormat {
    /// `N/A` for no moment.
    pub fn format(self, moment: Option<&Timestamp>) -> String {
        let Some(moment) = moment else {
            return "N/A".to_owned();
        };
        let civil = Civil::new(moment);
        match self {
            Self::StampMilli => {
                format!("{}.{:03}", stamp(Some(moment)), civil.nanos / 1_000_000)
            }
            Self::Rfc3339 => civil.iso(""),
            Self::Rfc3339Milli => civil.iso(&format!(".{:03}", civil.nanos / 1_000_000)),
            Self::Rfc3339Micro => civil.iso(&format!(".{:06}", civil.nanos / 1_000)),
            Self::Rfc3339Nano => civil.iso(&format!(".{:09}", civil.nanos)),
            Self::Rfc1123Z => {
                let weekday = WEEKDAYS[civil.days.rem_euclid(7) as usize];
                let Civil { year, day, .. } = civil;
                let (month, clock) = (civil.month_name(), civil.clock());
                format!("{weekday}, {day:02} {month} {year:04} {clock} +0000")
            }
        }
    }
}

/// `Jun 14 09:12:03`, as the brief form prints it.
pub fn stamp(moment: Option<&Timestamp>) -> String {
    let Some(moment) = moment else {
        return "N/A".to_owned();
    };
    let civil = Civil::new(moment);
    format!("{} {:>2} {}", civil.month_name(), civil.day, civil.clock())
}

/// `1h30m0s`, as Hubble prints an age.
pub fn duration(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// Reads a moment: a duration before `now_ns` (`5m`, `1h30m`), or a date, with or
/// without time (`2026-06-14`, `2026-06-14T09:12:03Z`). Nanoseconds since 1970.
pub fn moment(text: &str, now_ns: u64) -> Result<u64, String> {
    if let Some(ns) = duration_ns(text) {
        return Ok(now_ns.saturating_sub(ns));
    }
    let dated = if text.contains('T') { text.to_owned() } else { format!("{text}T00:00:00") };
    // Without a zone it is UTC.
    let zoned = |text: &str| {
        let time = text.split_once('T').map_or("", |(_, time)| time);
        time.ends_with('Z') || time.contains(['+', '-'])
    };
    let dated = if zoned(&dated) { dated } else { format!("{dated}Z") };
    dated.parse::<Timestamp>().map(|moment| api::time::nanoseconds(&moment)).map_err(|_| {
        format!("`{text}` is neither a duration (5m, 1h30m) nor a date (2026-06-14T09:12:03Z)")
    })
}

/// `1h30m`, `10s`, `1.5h`, `250ms`: numbers, each with its unit.
pub fn duration_ns(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        total += number
            * match &rest[..end] {
                "ns" => 1.0,
                "us" | "µs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                "d" => 86_400e9,
                _ => return None,
            };
        rest = &rest[end..];
    }
    // A cast from floating point saturates.
    (!text.is_empty()).then_some(total as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Timestamp = Timestamp { seconds: 1_767_323_045, nanos: 1_234_567 };

    #[track_caller]
    fn check(format: TimeFormat, want: &str) {
        assert_eq!(format.format(Some(&MOMENT)), want);
    }

    #[test]
    fn moments_print_as_hubble_prints_them() {
        check(TimeFormat::StampMilli, "Jan  2 03:04:05.001");
        check(TimeFormat::Rfc3339, "2026-01-02T03:04:05Z");
        check(TimeFormat::Rfc3339Milli, "2026-01-02T03:04:05.001Z");
        check(TimeFormat::Rfc3339Micro, "2026-01-02T03:04:05.001234Z");
        check(TimeFormat::Rfc3339Nano, "2026-01-02T03:04:05.001234567Z");
        check(TimeFormat::Rfc1123Z, "Fri, 02 Jan 2026 03:04:05 +0000");
        assert_eq!(TimeFormat::StampMilli.format(None), "N/A");
    }

    #[track_caller]
    fn check_stamp(seconds: i64, want: &str) {
        assert_eq!(stamp(Some(&Timestamp { seconds, nanos: 0 })), want);
    }

    #[test]
    fn the_calendar_knows_leap_days_and_ends_of_years() {
        check_stamp(0, "Jan  1 00:00:00");
        check_stamp(951_782_400, "Feb 29 00:00:00");
        check_stamp(1_709_251_199, "Feb 29 23:59:59");
        check_stamp(1_709_251_200, "Mar  1 00:00:00");
        check_stamp(1_767_225_599, "Dec 31 23:59:59");
        check_stamp(-1, "Dec 31 23:59:59");
    }

    #[test]
    fn an_age_prints_as_hubble_prints_it() {
        assert_eq!([duration(5400), duration(61), duration(7)], ["1h30m0s", "1m1s", "7s"]);
    }

    #[track_caller]
    fn check_moment(text: &str, want: Option<u64>) {
        let now = 1_800_000_000_000_000_000;
        assert_eq!(moment(text, now).ok(), want, "{text}");
    }

    #[test]
    fn a_moment_is_a_duration_ago_or_a_date() {
        check_moment("5m", Some(1_799_999_700_000_000_000));
        check_moment("1h30m", Some(1_799_994_600_000_000_000));
        check_moment("1.5s", Some(1_799_999_998_500_000_000));
        check_moment("2026-01-02", Some(1_767_312_000_000_000_000));
        check_moment("2026-01-02T03:04:05", Some(1_767_323_045_000_000_000));
        check_moment("2026-01-02T03:04:05.001Z", Some(1_767_323_045_001_000_000));
        check_moment("2026-01-02T04:04:05+01:00", Some(1_767_323_045_000_000_000));
        check_moment("9999999h", Some(0));
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in ["", "5", "5x", "m", "yesterday", "2026-13-01", "T", "..h"] {
            check_moment(text, None);
        }
    }
}
