//! Formats local time for chat templates, as Python's `datetime.now().strftime` does on Linux.
//!
//! Python leaves all directives but `%f`, `%z` and `%Z` to the C library. The rules here are those
//! of glibc in the C locale: flags `-`, `_`, `0`, `^` and `#`, a width, and the modifiers `E` and
//! `O`. llama.cpp takes the local time, too.

use jiff::Zoned;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Widest field that is written, which bounds the output of a hostile template.
const WIDEST: usize = 1024;

/// Flags and width of a directive.
#[derive(Clone, Copy, Default)]
struct Style {
    /// Padding given by a flag: `-` for none, or a character.
    pad: Option<char>,
    upper: bool,
    swap: bool,
    width: Option<usize>,
}

impl Style {
    /// Writes a number, padded to `digits` with `pad` unless a flag says otherwise.
    fn number(self, value: i64, digits: usize, pad: char, out: &mut String) {
        let text = value.unsigned_abs().to_string();
        let pad = self.pad.unwrap_or(pad);
        let sign = if value < 0 { "-" } else { "" };
        let width = if pad == '-' { 0 } else { self.width.unwrap_or(0).max(digits) };
        let fill = width.saturating_sub(text.len() + sign.len());
        let fill: String = std::iter::repeat_n(pad, fill).collect();
        // Zeros follow the sign, spaces precede it.
        out.push_str(&if pad == ' ' {
            fill + sign + &text
        } else {
            sign.to_owned() + &fill + &text
        });
    }

    /// Writes a text field, which the flag `-` leaves padded.
    ///
    /// `swapped` gives its form under the flag `#`.
    fn text(self, text: &str, swapped: impl Fn(&str) -> String, out: &mut String) {
        let text = match (self.swap, self.upper) {
            (true, _) => swapped(text),
            (false, true) => text.to_uppercase(),
            (false, false) => text.to_owned(),
        };
        let fill = self.width.unwrap_or(0).saturating_sub(text.chars().count());
        let pad = if self.pad == Some('0') { '0' } else { ' ' };
        out.extend(std::iter::repeat_n(pad, fill));
        out.push_str(&text);
    }
}

/// Formats the local time `now`.
///
/// Unknown directives are copied unchanged.
pub(super) fn strftime(format: &str, now: &Zoned) -> String {
    let mut out = String::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let directive = &rest[at..];
        let taken = expand(directive, now, &mut out).unwrap_or_else(|| {
            // An unknown directive: its percent sign is text, and so is what follows it.
            out.push('%');
            1
        });
        rest = &directive[taken..];
    }
    out + rest
}

/// Writes the directive at the start of `text` and returns its length.
///
/// `None` if the directive is unknown.
fn expand(text: &str, now: &Zoned, out: &mut String) -> Option<usize> {
    // Python replaces these before the C library sees them. The time has no zone there.
    if text.starts_with("%f") {
        out.push_str(&format!("{:06}", now.subsec_nanosecond() / 1000));
        return Some(2);
    }
    for zone in ["%z", "%Z", "%:z"] {
        if text.starts_with(zone) {
            return Some(zone.len());
        }
    }
    let mut style = Style::default();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((_, c)) = chars.next_if(|(_, c)| "-_0^#".contains(*c)) {
        match c {
            '^' => style.upper = true,
            '#' => style.swap = true,
            '_' => style.pad = Some(' '),
            c => style.pad = Some(c),
        }
    }
    while let Some((_, digit)) = chars.next_if(|(_, c)| c.is_ascii_digit()) {
        let digit = digit as usize - '0' as usize;
        style.width = Some((style.width.unwrap_or(0) * 10 + digit).min(WIDEST));
    }
    chars.next_if(|(_, c)| matches!(c, 'E' | 'O'));
    let (at, directive) = chars.next()?;
    let (year, yday) = (i64::from(now.year()), i64::from(now.day_of_year()) - 1);
    let (month, day) = (i64::from(now.month()), i64::from(now.day()));
    let (hour, minute, second) =
        (i64::from(now.hour()), i64::from(now.minute()), i64::from(now.second()));
    let wday = i64::from(now.weekday().to_sunday_zero_offset());
    let (iso_year, iso_week) = iso_week(year, yday, wday);
    let twelve = if hour % 12 == 0 { 12 } else { hour % 12 };
    let upper = |text: &str| text.to_uppercase();
    let month_name = MONTHS.get(month as usize - 1).copied().unwrap_or_default();
    let day_name = DAYS.get(wday as usize).copied().unwrap_or_default();
    let mut number = |value: i64, digits: usize, pad: char| style.number(value, digits, pad, out);
    match directive {
        'Y' => number(year, 0, '0'),
        'C' => number(year.div_euclid(100), 2, '0'),
        'y' => number(year.rem_euclid(100), 2, '0'),
        'G' => number(iso_year, 0, '0'),
        'g' => number(iso_year.rem_euclid(100), 2, '0'),
        'm' => number(month, 2, '0'),
        'd' => number(day, 2, '0'),
        'e' => number(day, 2, ' '),
        'j' => number(yday + 1, 3, '0'),
        'H' => number(hour, 2, '0'),
        'k' => number(hour, 2, ' '),
        'I' => number(twelve, 2, '0'),
        'l' => number(twelve, 2, ' '),
        'M' => number(minute, 2, '0'),
        'S' => number(second, 2, '0'),
        's' => number(now.timestamp().as_second(), 0, '0'),
        'u' => number(if wday == 0 { 7 } else { wday }, 1, '0'),
        'w' => number(wday, 1, '0'),
        'U' => number((yday + 7 - wday) / 7, 2, '0'),
        'W' => number((yday + 7 - (wday + 6) % 7) / 7, 2, '0'),
        'V' => number(iso_week, 2, '0'),
        'B' => style.text(month_name, upper, out),
        'b' | 'h' => style.text(&month_name[..3], upper, out),
        'A' => style.text(day_name, upper, out),
        'a' => style.text(&day_name[..3], upper, out),
        'p' => style.text(if hour < 12 { "AM" } else { "PM" }, str::to_lowercase, out),
        'P' => Style { upper: false, ..style }.text(
            if hour < 12 { "am" } else { "pm" },
            str::to_lowercase,
            out,
        ),
        // With a flag, Python leaves these to the C library, which has no zone to write either.
        'z' | 'Z' => style.text("", upper, out),
        'n' => style.text("\n", upper, out),
        't' => style.text("\t", upper, out),
        '%' => style.text("%", upper, out),
        'c' => style.text(&strftime("%a %b %e %H:%M:%S %Y", now), upper, out),
        'x' | 'D' => style.text(&strftime("%m/%d/%y", now), upper, out),
        'X' | 'T' => style.text(&strftime("%H:%M:%S", now), upper, out),
        'R' => style.text(&strftime("%H:%M", now), upper, out),
        'r' => style.text(&strftime("%I:%M:%S %p", now), upper, out),
        'F' => style.text(&strftime("%Y-%m-%d", now), upper, out),
        _ => return None,
    }
    Some(at + directive.len_utf8())
}

/// Year and number of the ISO 8601 week.
///
/// Days of the year and of the week count from 0.
///
/// Week 1 is the one with the year's first Thursday.
fn iso_week(year: i64, yday: i64, wday: i64) -> (i64, i64) {
    let days =
        |year: i64| if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) { 366 } else { 365 };
    // Day of the year of this week's Thursday.
    let thursday = yday - (wday + 6) % 7 + 3;
    if thursday < 0 {
        (year - 1, (thursday + days(year - 1)) / 7 + 1)
    } else if thursday >= days(year) {
        (year + 1, 1)
    } else {
        (year, thursday / 7 + 1)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use jiff::Timestamp;
    use jiff::tz::TimeZone;

    use super::*;

    /// Formats a time in a zone given as in the variable TZ.
    fn at(seconds: i64, zone: &str, format: &str) -> String {
        let zone = TimeZone::posix(zone).unwrap();
        strftime(format, &Timestamp::new(seconds, 123_456_789).unwrap().to_zoned(zone))
    }

    #[test]
    fn directives_equal_those_of_python() {
        // Expected values from Python 3.13 on glibc 2.41: TZ=ZONE python3 -c
        // "import datetime; print(repr(datetime.datetime.fromtimestamp(S).strftime(FORMAT)))".
        for (seconds, zone, format, want) in EXPECTED {
            assert_eq!(at(*seconds, zone, format), *want, "{seconds} {zone} {format}");
        }
    }

    #[test]
    fn fraction_and_zone_are_those_of_a_time_without_zone() {
        assert_eq!(at(0, "JST-9", "%f|%z|%Z|%:z|%H"), "123456||||09");
    }

    #[test]
    fn unknown_directives_and_wide_fields_are_bounded() {
        assert_eq!(at(0, "UTC0", "100%% %q %"), "100% %q %");
        assert_eq!(at(0, "UTC0", "é%-qé%E"), "é%-qé%E");
        assert_eq!(at(0, "UTC0", "%99999999999999999999d").len(), WIDEST);
    }

    const EXPECTED: &[(i64, &str, &str, &str)] = &[
        (
            0,
            "UTC0",
            "%a|%A|%b|%B|%c|%C|%d|%D|%e|%F|%g|%G|%h|%H|%I|%j|%k|%l|%m|%M|%n|%p|%P|%r|%R|%s|%S|%t|%T|%u|%U|%V|%w|%W|%x|%X|%y|%Y|%%",
            "Thu|Thursday|Jan|January|Thu Jan  1 00:00:00 1970|19|01|01/01/70| 1|1970-01-01|70|1970|Jan|00|12|001| 0|12|01|00|\n|AM|am|12:00:00 AM|00:00|0|00|\t|00:00:00|4|00|01|4|00|01/01/70|00:00:00|70|1970|%",
        ),
        (
            951782400,
            "UTC0",
            "%a|%A|%b|%B|%c|%C|%d|%D|%e|%F|%g|%G|%h|%H|%I|%j|%k|%l|%m|%M|%n|%p|%P|%r|%R|%s|%S|%t|%T|%u|%U|%V|%w|%W|%x|%X|%y|%Y|%%",
            "Tue|Tuesday|Feb|February|Tue Feb 29 00:00:00 2000|20|29|02/29/00|29|2000-02-29|00|2000|Feb|00|12|060| 0|12|02|00|\n|AM|am|12:00:00 AM|00:00|951782400|00|\t|00:00:00|2|09|09|2|09|02/29/00|00:00:00|00|2000|%",
        ),
        (
            951868799,
            "JST-9",
            "%a|%A|%b|%B|%c|%C|%d|%D|%e|%F|%g|%G|%h|%H|%I|%j|%k|%l|%m|%M|%n|%p|%P|%r|%R|%s|%S|%t|%T|%u|%U|%V|%w|%W|%x|%X|%y|%Y|%%",
            "Wed|Wednesday|Mar|March|Wed Mar  1 08:59:59 2000|20|01|03/01/00| 1|2000-03-01|00|2000|Mar|08|08|061| 8| 8|03|59|\n|AM|am|08:59:59 AM|08:59|951868799|59|\t|08:59:59|3|09|09|3|09|03/01/00|08:59:59|00|2000|%",
        ),
        (
            1735689599,
            "EST5EDT,M3.2.0,M11.1.0",
            "%a|%A|%b|%B|%c|%C|%d|%D|%e|%F|%g|%G|%h|%H|%I|%j|%k|%l|%m|%M|%n|%p|%P|%r|%R|%s|%S|%t|%T|%u|%U|%V|%w|%W|%x|%X|%y|%Y|%%",
            "Tue|Tuesday|Dec|December|Tue Dec 31 18:59:59 2024|20|31|12/31/24|31|2024-12-31|25|2025|Dec|18|06|366|18| 6|12|59|\n|PM|pm|06:59:59 PM|18:59|1735689599|59|\t|18:59:59|2|52|01|2|53|12/31/24|18:59:59|24|2024|%",
        ),
        (
            1735689599,
            "<+0330>-3:30",
            "%a|%A|%b|%B|%c|%C|%d|%D|%e|%F|%g|%G|%h|%H|%I|%j|%k|%l|%m|%M|%n|%p|%P|%r|%R|%s|%S|%t|%T|%u|%U|%V|%w|%W|%x|%X|%y|%Y|%%",
            "Wed|Wednesday|Jan|January|Wed Jan  1 03:29:59 2025|20|01|01/01/25| 1|2025-01-01|25|2025|Jan|03|03|001| 3| 3|01|29|\n|AM|am|03:29:59 AM|03:29|1735689599|59|\t|03:29:59|3|00|01|3|00|01/01/25|03:29:59|25|2025|%",
        ),
        (
            4107542400,
            "UTC0",
            "%a|%A|%b|%B|%c|%C|%d|%D|%e|%F|%g|%G|%h|%H|%I|%j|%k|%l|%m|%M|%n|%p|%P|%r|%R|%s|%S|%t|%T|%u|%U|%V|%w|%W|%x|%X|%y|%Y|%%",
            "Mon|Monday|Mar|March|Mon Mar  1 00:00:00 2100|21|01|03/01/00| 1|2100-03-01|00|2100|Mar|00|12|060| 0|12|03|00|\n|AM|am|12:00:00 AM|00:00|4107542400|00|\t|00:00:00|1|09|09|1|09|03/01/00|00:00:00|00|2100|%",
        ),
        (
            1609459200,
            "UTC0",
            "%a|%A|%b|%B|%c|%C|%d|%D|%e|%F|%g|%G|%h|%H|%I|%j|%k|%l|%m|%M|%n|%p|%P|%r|%R|%s|%S|%t|%T|%u|%U|%V|%w|%W|%x|%X|%y|%Y|%%",
            "Fri|Friday|Jan|January|Fri Jan  1 00:00:00 2021|20|01|01/01/21| 1|2021-01-01|20|2020|Jan|00|12|001| 0|12|01|00|\n|AM|am|12:00:00 AM|00:00|1609459200|00|\t|00:00:00|5|00|53|5|00|01/01/21|00:00:00|21|2021|%",
        ),
        (
            1230768000,
            "UTC0",
            "%a|%A|%b|%B|%c|%C|%d|%D|%e|%F|%g|%G|%h|%H|%I|%j|%k|%l|%m|%M|%n|%p|%P|%r|%R|%s|%S|%t|%T|%u|%U|%V|%w|%W|%x|%X|%y|%Y|%%",
            "Thu|Thursday|Jan|January|Thu Jan  1 00:00:00 2009|20|01|01/01/09| 1|2009-01-01|09|2009|Jan|00|12|001| 0|12|01|00|\n|AM|am|12:00:00 AM|00:00|1230768000|00|\t|00:00:00|4|00|01|4|00|01/01/09|00:00:00|09|2009|%",
        ),
        (
            1719835445,
            "EST5EDT,M3.2.0,M11.1.0",
            "%a|%A|%b|%B|%c|%C|%d|%D|%e|%F|%g|%G|%h|%H|%I|%j|%k|%l|%m|%M|%n|%p|%P|%r|%R|%s|%S|%t|%T|%u|%U|%V|%w|%W|%x|%X|%y|%Y|%%",
            "Mon|Monday|Jul|July|Mon Jul  1 08:04:05 2024|20|01|07/01/24| 1|2024-07-01|24|2024|Jul|08|08|183| 8| 8|07|04|\n|AM|am|08:04:05 AM|08:04|1719835445|05|\t|08:04:05|1|26|27|1|27|07/01/24|08:04:05|24|2024|%",
        ),
        (1104537600, "UTC0", "%G-W%V-%u %U %W %j", "2004-W53-6 00 00 001"),
        (1136073600, "UTC0", "%G-W%V-%u %U %W %j", "2005-W52-7 01 00 001"),
        (1199145600, "UTC0", "%G-W%V-%u %U %W %j", "2008-W01-2 00 00 001"),
        (1230681600, "UTC0", "%G-W%V-%u %U %W %j", "2009-W01-3 52 52 366"),
        (1419984000, "UTC0", "%G-W%V-%u %U %W %j", "2015-W01-3 52 52 365"),
        (1483228800, "UTC0", "%G-W%V-%u %U %W %j", "2016-W52-7 01 00 001"),
        (1720000005, "UTC0", "%-d %B %Y", "3 July 2024"),
        (1704103205, "UTC0", "%-d %B %Y", "1 January 2024"),
        (1720000005, "UTC0", "%_d|%-m|%-H|%-I|%-M|%-S|%-j", " 3|7|9|9|46|45|185"),
        (1704103205, "UTC0", "%_d|%-m|%-H|%-I|%-M|%-S|%-j", " 1|1|10|10|0|5|1"),
        (1720000005, "UTC0", "%_H|%_I|%_j|%_m", " 9| 9|185| 7"),
        (1704103205, "UTC0", "%_H|%_I|%_j|%_m", "10|10|  1| 1"),
        (1720000005, "UTC0", "%0e|%0k|%0l", "03|09|09"),
        (1704103205, "UTC0", "%0e|%0k|%0l", "01|10|10"),
        (1720000005, "UTC0", "%^a %^B %^p", "WED JULY AM"),
        (1704103205, "UTC0", "%^a %^B %^p", "MON JANUARY AM"),
        (1720000005, "UTC0", "%#a %#B %#p %#Z", "WED JULY am "),
        (1704103205, "UTC0", "%#a %#B %#p %#Z", "MON JANUARY am "),
        (
            1720000005,
            "UTC0",
            "%10Y|%3d|%10B|%-10B|%010B|%_10d",
            "0000002024|003|      July|      July|000000July|         3",
        ),
        (
            1704103205,
            "UTC0",
            "%10Y|%3d|%10B|%-10B|%010B|%_10d",
            "0000002024|001|   January|   January|000January|         1",
        ),
        (1720000005, "UTC0", "%Ey %Od %EY %OH", "24 03 2024 09"),
        (1704103205, "UTC0", "%Ey %Od %EY %OH", "24 01 2024 10"),
        (1720000005, "UTC0", "%+d", "%+d"),
        (1704103205, "UTC0", "%+d", "%+d"),
        (
            1720000005,
            "UTC0",
            "%5%|%10F|%^c|%12c",
            "    %|2024-07-03|WED JUL  3 09:46:45 2024|Wed Jul  3 09:46:45 2024",
        ),
        (
            1704103205,
            "UTC0",
            "%5%|%10F|%^c|%12c",
            "    %|2024-01-01|MON JAN  1 10:00:05 2024|Mon Jan  1 10:00:05 2024",
        ),
        (1720000005, "UTC0", "%-y|%_y|%_C|%^F", "24|24|20|2024-07-03"),
        (1704103205, "UTC0", "%-y|%_y|%_C|%^F", "24|24|20|2024-01-01"),
        (1720000005, "UTC0", "%10n|", "         \n|"),
        (1704103205, "UTC0", "%10n|", "         \n|"),
        (1720000005, "UTC0", "%P|%^P|%#P", "am|am|am"),
        (1704103205, "UTC0", "%P|%^P|%#P", "am|am|am"),
    ];
}
