//! Checks of `stores`.

use std::collections::BTreeMap;

use tidegate_filters::store::Most;

use super::check::Checker;
use super::check_rooms::from_hex;
use super::file_server::StoreFile;
use super::placed::{At, Named};
use super::secret::Secret;
use super::types::{DatabaseSpec, StoreSpec};

/// Most records of a store: beyond it nobody has tried.
const MOST_RECORDS: u64 = 100_000_000;
/// What an address of a database begins with.
const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];

impl Checker<'_, '_> {
    pub(super) fn stores(&mut self, file: &Named<StoreFile>) -> BTreeMap<String, StoreSpec> {
        let mut stores = BTreeMap::new();
        for (name, store) in &file.0 {
            self.name(store.at, name, "a store");
            if let Some(spec) = self.store(&store.value) {
                stores.insert(name.clone(), spec);
            }
        }
        stores
    }

    fn store(&mut self, file: &StoreFile) -> Option<StoreSpec> {
        let kind = &file.kind;
        let spec = match kind.value.as_str() {
            "memory" => StoreSpec::Memory(self.most(file, Most::IN_MEMORY)),
            "sqlite" => StoreSpec::Sqlite(self.most(file, Most::ON_DISK)),
            "postgres" if cfg!(not(feature = "postgres")) => {
                let help = Some("build it with the feature `postgres`".to_owned());
                self.wrong_with_help(kind.at, "this gateway was built without Postgres", help);
                return None;
            }
            "postgres" => return self.database(kind, file),
            other => {
                let message = format!("unknown store type `{other}`; known: `memory`, `sqlite`, `postgres`");
                let help = (other == "redis").then(|| "`redis` is not in this version".to_owned());
                self.wrong_with_help(kind.at, message, help);
                return None;
            }
        };
        let StoreFile { kind: _, max_records: _, max_bytes: _, url, password, password_file, secret, secret_file } =
            file;
        let places = [
            ("url", url.as_ref().map(|text| text.at)),
            ("password", password.as_ref().map(|text| text.at)),
            ("password_file", password_file.as_ref().map(|path| path.at)),
            ("secret", secret.as_ref().map(|text| text.at)),
            ("secret_file", secret_file.as_ref().map(|path| path.at)),
        ];
        for (key, at) in places {
            if let Some(at) = at {
                self.wrong(at, format!("`{key}` goes with `type: postgres`"));
            }
        }
        Some(spec)
    }

    fn most(&self, file: &StoreFile, usual: Most) -> Most {
        let records = match &file.max_records {
            Some(count) if count.value == 0 || count.value > MOST_RECORDS => {
                self.wrong(count.at, format!("`max_records` is between 1 and {MOST_RECORDS}"));
                usual.records
            }
            Some(count) => usize::try_from(count.value).unwrap_or(usual.records),
            None => usual.records,
        };
        Most { records, bytes: file.max_bytes.as_ref().map_or(usual.bytes, |size| size.value.0) }
    }

    fn database(&mut self, kind: &At<String>, file: &StoreFile) -> Option<StoreSpec> {
        let password = match (&file.password, &file.password_file) {
            (Some(text), None) => self.secret(text),
            (None, Some(path)) => self.secret_file(path),
            (None, None) => None,
            (Some(text), Some(_)) => {
                self.wrong(text.at, "only one of `password` and `password_file`");
                None
            }
        };
        let key = self.sealing_key(kind, file);
        let Some(url) = &file.url else {
            let help = Some("as in `url: \"postgres://tidegate@db.internal/tidegate\"`".to_owned());
            self.wrong_with_help(kind.at, "a store of type `postgres` needs a `url`", help);
            return None;
        };
        let rest = SCHEMES.iter().find_map(|scheme| url.value.strip_prefix(scheme));
        let Some(rest) = rest else {
            self.wrong(url.at, "the address of a database begins with `postgres://`");
            return None;
        };
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        if authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':')) || rest.contains("password=") {
            let help = Some("use `password: \"${NAME}\"` or `password_file`".to_owned());
            self.wrong_with_help(url.at, "the password does not stand in the address", help);
            return None;
        }
        let password = password.map(|secret: Secret| String::from_utf8_lossy(secret.expose()).into_owned());
        let most = self.most(file, Most::ON_DISK);
        Some(StoreSpec::Postgres(DatabaseSpec { url: url.value.clone(), password, key: key? }, most))
    }

    fn sealing_key(&mut self, kind: &At<String>, file: &StoreFile) -> Option<[u8; 32]> {
        let help = || Some("make one with `openssl rand -hex 32`; all gateways have the same".to_owned());
        let (at, secret) = match (&file.secret, &file.secret_file) {
            (Some(text), None) => (text.at, self.secret(text)?),
            (None, Some(path)) => (path.at, self.secret_file(path)?),
            _ => {
                let message = "answers are sealed: exactly one of `secret` and `secret_file` is needed";
                self.wrong_with_help(kind.at, message, help());
                return None;
            }
        };
        let key = from_hex(secret.expose());
        if key.is_none() {
            self.wrong_with_help(at, "a key is 32 bytes, written as 64 hexadecimal digits", help());
        }
        key
    }
}
