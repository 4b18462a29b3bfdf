//! Times that a text speaks of: `8 May 2023`, `last week`, `two months ago`. English words and
//! ISO dates; no model.

use jiff::{
    ToSpan,
    civil::{Date, Weekday},
};

use crate::words;

/// Most intervals that are read out of one text.
const MOST: usize = 8;

/// Months, each also known by its first three letters.
const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

const DAYS: [(&str, Weekday); 7] = [
    ("monday", Weekday::Monday),
    ("tuesday", Weekday::Tuesday),
    ("wednesday", Weekday::Wednesday),
    ("thursday", Weekday::Thursday),
    ("friday", Weekday::Friday),
    ("saturday", Weekday::Saturday),
    ("sunday", Weekday::Sunday),
];

/// Seasons of the northern half, by their first month.
const SEASONS: [(&str, i8); 5] = [
    ("spring", 3),
    ("summer", 6),
    ("autumn", 9),
    ("fall", 9),
    ("winter", 12),
];

const NUMBERS: [&str; 13] = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve",
];

/// Days, the last one excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// First day.
    pub from: Date,
    /// Day after the last one.
    pub until: Date,
}

impl Interval {
    fn days(from: Date, days: i32) -> Option<Self> {
        let until = from.checked_add(days.days()).ok()?;
        Some(Self { from, until })
    }

    fn day(day: Date) -> Option<Self> {
        Self::days(day, 1)
    }

    fn months(year: i16, month: i8, months: i32) -> Option<Self> {
        let from = Date::new(year, month, 1).ok()?;
        let until = from.checked_add(months.months()).ok()?;
        Some(Self { from, until })
    }

    fn year(year: i16) -> Option<Self> {
        Self::months(year, 1, 12)
    }

    /// Whether a day is in it.
    #[must_use]
    pub fn contains(&self, day: Date) -> bool {
        self.from <= day && day < self.until
    }

    /// How many days it has.
    #[must_use]
    pub fn length(&self) -> i32 {
        (self.until - self.from).get_days()
    }

    /// How well a day fits, from 0 to 1: 1 inside; outside less by the distance, as measured by
    /// the interval's own length, but at least a week, because people err by days.
    #[must_use]
    pub fn fit(&self, day: Date) -> f32 {
        let distance = match () {
            () if self.contains(day) => return 1.0,
            () if day < self.from => self.from - day,
            () => day - self.until,
        };
        let scale = self.length().max(7) as f32;
        (1.0 - distance.get_days() as f32 / scale).max(0.0) * 0.5
    }
}

/// The times that `text` speaks of, as seen from `today`.
#[must_use]
pub fn intervals(text: &str, today: Date) -> Vec<Interval> {
    let (mut found, rest) = iso_dates(text);
    let words: Vec<String> = words::words(&rest)
        .map(|word| without_ending(&word.text))
        .collect();
    let mut place = 0;
    while place < words.len() && found.len() < MOST {
        let reader = Reader {
            words: &words[place..],
            today,
        };
        place += match reader.read() {
            Some((interval, length)) => {
                if !found.contains(&interval) {
                    found.push(interval);
                }
                length
            }
            None => 1,
        };
    }
    found
}

/// Whether a lower-case word tells a time: months and days are written like names, others stand
/// beside terms.
pub(super) fn is_calendar_word(word: &str) -> bool {
    let others = [
        "yesterday",
        "today",
        "tonight",
        "tomorrow",
        "week",
        "weekend",
        "month",
        "year",
    ];
    MONTHS.contains(&word) || DAYS.iter().any(|(day, _)| *day == word) || others.contains(&word)
}

/// `8th` as `8`.
fn without_ending(word: &str) -> String {
    let digits = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let is_ordinal = ["st", "nd", "rd", "th"].contains(&&word[digits.len()..]);
    match is_ordinal && !digits.is_empty() {
        true => digits.to_owned(),
        false => word.to_owned(),
    }
}

/// `2023-05-08`, also as the beginning of a time, and `2023-05`; and the text without them.
fn iso_dates(text: &str) -> (Vec<Interval>, String) {
    let mut found = Vec::new();
    let mut rest = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        match iso_date(word.trim_matches(|c: char| !c.is_ascii_alphanumeric())) {
            Some(interval) if found.len() < MOST => found.push(interval),
            _ => {
                rest.push_str(word);
                rest.push(' ');
            }
        }
    }
    (found, rest)
}

fn iso_date(word: &str) -> Option<Interval> {
    let (year, after) = word.split_once('-')?;
    if year.len() != 4 {
        return None;
    }
    match after.len() {
        2 => Interval::months(year.parse().ok()?, after.parse().ok()?, 1),
        _ => Interval::day(word.get(..10)?.parse().ok()?),
    }
}

/// Reads an expression at the beginning of some words; gives how many words it took.
struct Reader<'a> {
    words: &'a [String],
    today: Date,
}

type Read = Option<(Interval, usize)>;

impl Reader<'_> {
    fn read(&self) -> Read {
        self.day_month()
            .or_else(|| self.month())
            .or_else(|| self.named_day())
            .or_else(|| self.ago())
            .or_else(|| self.relative())
            .or_else(|| self.past())
            .or_else(|| self.season())
            .or_else(|| Some((Interval::year(self.year(0)?)?, 1)))
    }

    fn word(&self, place: usize) -> &str {
        self.words.get(place).map_or("", String::as_str)
    }

    fn month_number(&self, place: usize) -> Option<i8> {
        let word = self.word(place);
        let found = MONTHS.iter().position(|month| {
            // "may" is a word of its own; short forms are not.
            word == *month || (word.len() == 3 && *month != "may" && month.starts_with(word))
        });
        Some(found? as i8 + 1)
    }

    fn year(&self, place: usize) -> Option<i16> {
        let word = self.word(place);
        let year = word.parse().ok().filter(|year| (1900..2200).contains(year));
        year.filter(|_| word.len() == 4)
    }

    fn day_number(&self, place: usize) -> Option<i8> {
        let day = self.word(place).parse().ok();
        day.filter(|day| (1..=31).contains(day))
    }

    fn count(&self, place: usize) -> Option<i32> {
        let word = self.word(place);
        match word {
            "a" | "an" => Some(1),
            "couple" => Some(2),
            "few" | "several" => Some(3),
            _ => NUMBERS
                .iter()
                .position(|number| *number == word)
                .map(|number| number as i32)
                .or_else(|| word.parse().ok().filter(|n| (0..1000).contains(n))),
        }
    }

    /// The year of a month without one: the latest that is not in the future.
    fn latest(&self, month: i8) -> i16 {
        match month <= self.today.month() {
            true => self.today.year(),
            false => self.today.year() - 1,
        }
    }

    /// `8 May 2023`, `8 of May`, `May 8, 2023`, `May 8`.
    fn day_month(&self) -> Read {
        let (day, month, used) = if let Some(day) = self.day_number(0) {
            let place = 1 + usize::from(self.word(1) == "of");
            (day, self.month_number(place)?, place + 1)
        } else {
            (self.day_number(1)?, self.month_number(0)?, 2)
        };
        let (year, used) = match self.year(used) {
            Some(year) => (year, used + 1),
            None => (self.latest(month), used),
        };
        Some((Interval::day(Date::new(year, month, day).ok()?)?, used))
    }

    /// `May 2023`, `in May`, `last May`; `may` alone is a verb.
    fn month(&self) -> Read {
        let before = [
            "in", "last", "this", "since", "during", "early", "late", "mid", "of",
        ];
        let skipped = usize::from(before.contains(&self.word(0)));
        let month = self.month_number(skipped)?;
        let after = skipped + 1;
        if let Some(year) = self.year(after + usize::from(self.word(after) == "of")) {
            let used = after + 1 + usize::from(self.word(after) == "of");
            return Some((Interval::months(year, month, 1)?, used));
        }
        if skipped == 0 && self.word(0) == "may" {
            return None;
        }
        let mut year = self.latest(month);
        if self.word(0) == "last" && month == self.today.month() {
            year -= 1;
        }
        Some((Interval::months(year, month, 1)?, after))
    }

    /// `today`, `yesterday`, `last Friday`, `on Friday`.
    fn named_day(&self) -> Read {
        let day = |offset: i32| Interval::day(self.today.checked_add(offset.days()).ok()?);
        let alone = match self.word(0) {
            "today" | "tonight" => Some(day(0)?),
            "yesterday" => Some(day(-1)?),
            "tomorrow" => Some(day(1)?),
            _ => None,
        };
        if let Some(interval) = alone {
            return Some((interval, 1));
        }
        let skipped = usize::from(["last", "on", "this", "next", "past"].contains(&self.word(0)));
        let name = self.word(skipped);
        let (_, weekday) = DAYS.iter().find(|(day, _)| *day == name)?;
        let nth = match self.word(0) {
            "next" => 1,
            _ => -1,
        };
        let date = self.today.nth_weekday(nth, *weekday).ok()?;
        Some((Interval::day(date)?, skipped + 1))
    }

    /// `two weeks ago`, `a year ago`.
    fn ago(&self) -> Read {
        let skipped = usize::from(self.word(0) == "a" && self.word(1) != "year");
        let skipped = match ["few", "couple"].contains(&self.word(skipped)) {
            true => skipped,
            false => 0,
        };
        let count = self.count(skipped)?;
        let unit_at = skipped + 1 + usize::from(self.word(skipped + 1) == "of");
        let unit = self.unit(unit_at)?;
        if self.word(unit_at + 1) != "ago" {
            return None;
        }
        Some((self.around(unit, -count)?, unit_at + 2))
    }

    /// `last week`, `this month`, `next year`, `the previous day`.
    fn relative(&self) -> Read {
        let offset = match self.word(0) {
            "last" | "previous" => -1,
            "this" => 0,
            "next" => 1,
            _ => return None,
        };
        if self.word(1) == "weekend" {
            let monday = self.monday()?.checked_add((7 * offset).days()).ok()?;
            let saturday = monday.checked_add(5.days()).ok()?;
            return Some((Interval::days(saturday, 2)?, 2));
        }
        Some((self.around(self.unit(1)?, offset)?, 2))
    }

    /// `the past three weeks`, `in the last month`.
    fn past(&self) -> Read {
        if !["past", "last"].contains(&self.word(0)) {
            return None;
        }
        let (count, place) = match self.count(1) {
            Some(count) => (count, 2),
            None => (1, 1),
        };
        let span = match self.unit(place)? {
            Unit::Day => count.days(),
            Unit::Week => count.weeks(),
            Unit::Month => count.months(),
            Unit::Year => count.years(),
        };
        let interval = Interval {
            from: self.today.checked_sub(span).ok()?,
            until: self.today.tomorrow().ok()?,
        };
        Some((interval, place + 1))
    }

    /// `last summer`, `summer of 2022`, `winter 2022`.
    fn season(&self) -> Read {
        let before = ["last", "this", "in", "next"].contains(&self.word(0));
        let skipped = usize::from(before) + usize::from(before && self.word(1) == "the");
        let (_, month) = SEASONS
            .iter()
            .find(|(name, _)| *name == self.word(skipped))?;
        let after = skipped + 1 + usize::from(self.word(skipped + 1) == "of");
        if let Some(year) = self.year(after) {
            return Some((Interval::months(year, *month, 3)?, after + 1));
        }
        let year = match self.word(0) {
            "last" | "in" => self.latest(*month),
            "this" => self.today.year(),
            "next" => self.latest(*month) + 1,
            _ => return None,
        };
        Some((Interval::months(year, *month, 3)?, skipped + 1))
    }

    fn unit(&self, place: usize) -> Option<Unit> {
        match self.word(place) {
            "day" | "days" => Some(Unit::Day),
            "week" | "weeks" => Some(Unit::Week),
            "month" | "months" => Some(Unit::Month),
            "year" | "years" => Some(Unit::Year),
            _ => None,
        }
    }

    fn monday(&self) -> Option<Date> {
        let since = i32::from(self.today.weekday().to_monday_zero_offset());
        self.today.checked_sub(since.days()).ok()
    }

    /// The day, week, month or year that lies `offset` of them from today's.
    fn around(&self, unit: Unit, offset: i32) -> Option<Interval> {
        let today = self.today;
        match unit {
            Unit::Day => Interval::day(today.checked_add(offset.days()).ok()?),
            Unit::Week => Interval::days(self.monday()?.checked_add(offset.weeks()).ok()?, 7),
            Unit::Month => {
                let day = today.first_of_month().checked_add(offset.months()).ok()?;
                Interval::months(day.year(), day.month(), 1)
            }
            Unit::Year => Interval::year(today.year() + i16::try_from(offset).ok()?),
        }
    }
}

#[derive(Clone, Copy)]
enum Unit {
    Day,
    Week,
    Month,
    Year,
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    fn check(text: &str, expected: &[(Date, i32)]) {
        // A Friday.
        let found = intervals(text, date(2023, 7, 14));
        let found: Vec<_> = found.iter().map(|i| (i.from, i.length())).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn dates_are_read_as_people_write_them() {
        let day = date(2023, 5, 8);
        for text in [
            "on 8 May, 2023",
            "May 8th, 2023",
            "the 8th of May 2023?",
            "may 8",
            "2023-05-08",
            "at 2023-05-08T10:00:00Z.",
        ] {
            check(text, &[(day, 1)]);
        }
        check("in August", &[(date(2022, 8, 1), 31)]);
        check(
            "June 2023 or 2021",
            &[(date(2023, 6, 1), 30), (date(2021, 1, 1), 365)],
        );
        check("2023-02", &[(date(2023, 2, 1), 28)]);
        check("February 30", &[(date(2023, 2, 1), 28)]);
        check("3 people, May I? room 204", &[]);
    }

    #[test]
    fn times_are_relative_to_today() {
        for (text, from, days) in [
            ("yesterday", date(2023, 7, 13), 1),
            ("last week", date(2023, 7, 3), 7),
            ("this month", date(2023, 7, 1), 31),
            ("two weeks ago", date(2023, 6, 26), 7),
            ("a year ago", date(2022, 1, 1), 365),
            ("a few days ago", date(2023, 7, 11), 1),
            ("a couple of months ago", date(2023, 5, 1), 31),
            ("last Friday", date(2023, 7, 7), 1),
            ("next Monday", date(2023, 7, 17), 1),
            ("last weekend", date(2023, 7, 8), 2),
            ("the past 10 days", date(2023, 7, 4), 11),
            ("last May", date(2023, 5, 1), 31),
            ("last July", date(2022, 7, 1), 31),
            ("last summer", date(2023, 6, 1), 92),
            ("summer of 2022", date(2022, 6, 1), 92),
            ("winter 2021", date(2021, 12, 1), 90),
        ] {
            check(text, &[(from, days)]);
        }
    }

    #[test]
    fn days_nearby_fit_a_little() {
        let may = Interval::months(2023, 5, 1).unwrap();
        assert_eq!(may.fit(date(2023, 5, 31)), 1.0);
        assert!(may.fit(date(2023, 6, 3)) > may.fit(date(2023, 6, 20)));
        assert!(may.fit(date(2023, 6, 3)) < 0.5);
        assert_eq!(may.fit(date(2023, 8, 1)), 0.0);
    }

    #[test]
    fn odd_input_is_no_time() {
        for text in [
            "",
            "ago",
            "last",
            "99999999999 days ago",
            "in the",
            "-",
            "0000-13-45",
        ] {
            check(text, &[]);
        }
        check("999 years ago", &[(date(1024, 1, 1), 366)]);
    }
}
