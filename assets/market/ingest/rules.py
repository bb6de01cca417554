"""The rules of the contract and the flags of bars: what each means, and what to do about it."""

from __future__ import annotations

REASONS: dict[str, str] = {
    "wrong_number_of_cells": "the line has more or fewer cells than the header, or leaves a quote open: quote cells "
    "that hold the separator, each on one line",
    "other_series": "another series of the symbol than those of market.series",
    "missing_symbol": "no symbol: fill it in",
    "bad_symbol": "a symbol has 1 to 32 letters, digits and . - = _ ^ / &: map it to such a name",
    "reserved_symbol": "tools downstream read this name as 'missing' or as a device: map it, e.g. to NA-US",
    "symbol_in_other_case": "the same symbol is written in another case elsewhere: use one spelling",
    "missing_date": "no date: fill it in",
    "unreadable_date": "the date cannot be read: write it as 2012-01-31, or 2012-01-31 09:30:00, the year with four "
    "digits",
    "unknown_time_zone": "the time zone in the timestamp is unknown or has several meanings: write an offset such as "
    "+08:00 or a place such as Asia/Shanghai, or remove it and set market.timezone",
    "mixed_date_format": "most dates of this payload have another format: use one format",
    "mixed_time_zone": "some timestamps of this payload have a time zone and others do not: use one format",
    "no_such_local_time": "this local time was skipped by daylight saving: write timestamps in UTC",
    "ambiguous_local_time": "this local time occurred twice when daylight saving ended: write timestamps in UTC",
    "in_the_future": "the bar is later than the time at which it was received",
    "before_the_calendar": "the calendar begins later: remove it",
    "not_a_session": "the exchange was closed that day: check the date and market.calendar",
    "outside_hours": "the exchange was closed at that time: check market.timezone and half days",
    "off_the_grid": "no bar of this frequency starts at that time: check market.frequency and market.timezone",
    "finer_frequency": "other bars of the payload start inside this one, so its frequency is finer: check "
    "market.frequency, or set market.resample = true to aggregate such rows",
    "crosses_bars": "with market.resample: the row reaches into the next bar of market.frequency: it belongs to none",
    "not_a_number": "a cell is not a number: write it with a decimal point and without text, or leave its "
    'column out with [market.columns] volume = ""',
    "missing_price": "open, high, low or close is missing",
    "price_not_finite": "open, high, low or close is NaN or infinite",
    "price_not_positive": "open, high, low or close is zero or negative",
    "price_out_of_range": "a price above 1e12",
    "low_above_high": "low is above high",
    "open_outside_range": "open is not between low and high",
    "close_outside_range": "close is not between low and high",
    "negative_volume": "volume or amount is negative",
    "volume_out_of_range": "volume is infinite or above 1e18, or amount is infinite or above 1e24",
    "impossible_action": "a dividend below zero, a split that is not positive or beyond 1,000,000 for one, or a factor "
    "that is not positive",
    "impossible_adjusted_close": "the adjusted close, from which actions are derived, is not positive or above 1e12",
    "unclear_split": "prices are divided by later splits, and a later session has two different splits: fetch it again",
    "not_closed_yet": "the bar was not closed when it was received: the file is read again later; a dropped file "
    "must be dropped again",
    "conflicting_duplicate": "the same symbol and timestamp with other values: keep one row per timestamp; "
    "with market.resample, all rows of a bar in one file",
}

FLAGS: dict[str, str] = {
    "after_gap": "the one to five bars before it are missing",
    "after_suspension": "more than five bars before it are missing",
    "zero_volume": "the volume is zero",
    "stale": "the same four prices and volume as the bar before",
    "jump": "more than 40 % from the bar before, without a split or dividend that explains it",
    "looks_like_split": "such a jump, overnight, at a split ratio: perhaps an unreported split",
    "action_unknown": "unknown whether there was a split or dividend since the bar before: provide a payload that "
    "begins a bar earlier",
    "incomplete": "market.resample: some of the finer rows that make the bar are missing",
    "half_day": "the session closed early",
}
