//! Parameters of a form or a query, and the text of them that is signed.

use std::collections::BTreeMap;

/// Parameters in the order of their names, which is the order in which they are signed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Params(BTreeMap<String, String>);

impl Params {
    /// Reads `a=1&b=2`, percent-decoded. Of a name that comes twice the last one counts.
    pub fn parse(form: &[u8]) -> Self {
        Self(form_urlencoded::parse(form).into_owned().collect())
    }

    /// Writes them as a form, percent-encoded.
    pub fn to_form(&self) -> String {
        form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.0).finish()
    }

    /// The value of `name`; absent also when it is empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The value of `name`, empty when there is none.
    pub fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or("")
    }

    /// Sets a parameter.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// All of these besides those there are.
    pub fn extend(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    /// `a=1&b=2`, sorted, not encoded, without empty values and without the names in `but`.
    pub fn signed_text(&self, but: &[&str]) -> String {
        let signed = self.0.iter().filter(|(name, value)| !value.is_empty() && !but.contains(&name.as_str()));
        signed.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Params {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}
