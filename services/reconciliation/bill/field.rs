//! Amounts and times as bills write them.

/// Fen from yuan with up to two decimals: `12`, `12.3`, `-0.45`. Absent for anything else, exponents among it.
pub(super) fn fen(yuan: &str) -> Option<i64> {
    let (negative, digits) = match yuan.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, yuan),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    // Bills have no decimals beyond the second but zeros, which some write in rates and discounts.
    let (cents, rest) = part.split_at_checked(2).unwrap_or((part, ""));
    if whole.is_empty() || !plain(whole) || !plain(part) || rest.bytes().any(|byte| byte != b'0') {
        return None;
    }
    if digits.ends_with('.') {
        return None;
    }
    let cents: i64 = format!("{cents:0<2}").parse().ok()?;
    let value = whole.parse::<i64>().ok()?.checked_mul(100)?.checked_add(cents)?;
    Some(if negative { -value } else { value })
}

/// Yuan with two decimals.
pub(super) fn yuan(fen: i64) -> String {
    let sign = if fen < 0 { "-" } else { "" };
    let fen = fen.unsigned_abs();
    format!("{sign}{}.{:02}", fen / 100, fen % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_come_back_and_nonsense_does_not() {
        for fen in [0, 1, 9, 10, 99, 100, 101, 4_900, -1, -99, -30_000, 999_999_999_999] {
            assert_eq!(super::fen(&yuan(fen)), Some(fen));
        }
        let cases = [("7", 700), ("7.5", 750), ("0.60000", 60), ("-0.12", -12), ("00.01", 1)];
        cases.into_iter().for_each(|(text, value)| assert_eq!(fen(text), Some(value), "{text}"));
        for text in ["", "-", ".5", "5.", "1.005", "1e3", "+1", " 1", "1,000.00", "--1", "99999999999999999999", "一"]
        {
            assert_eq!(fen(text), None, "{text}");
        }
    }
}
