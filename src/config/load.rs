//! From a file to a [`Config`], or to a [`Report`].

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use tidegate_filters::engine::Kinds;

use super::check::Checker;
use super::decode::Decoder;
use super::file::ConfigFile;
use super::finding::{self, Finding};
use super::parse::{Parsed, parse};
use super::problem::{Problem, Report};
use super::source::Source;
use super::tree::{Content, Tree};
use super::types::Config;

/// Largest configuration file, in bytes (4MiB).
pub const LARGEST_FILE: usize = 4 << 20;

/// A file that was read and found right.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it says.
    pub config: Arc<Config>,
    /// SHA-256 in hexadecimal of everything that was read: the text, the variables it uses, the files it names.
    pub hash: String,
    /// The file itself and those it names, to watch for changes. The first is the file itself when it came from one.
    pub files: Vec<PathBuf>,
    /// The file's text to show: variables stay `${NAME}`, literals at keys that announce a secret read `***`.
    pub redacted: String,
    /// What is allowed and still deserves a word.
    pub warnings: Vec<Problem>,
}

/// Reads, checks and resolves a file. `env` looks up environment variables.
///
/// # Errors
/// Everything that is wrong with it: it cannot be read, is larger than [`LARGEST_FILE`], may be written by anybody, is
/// no YAML, or says something that has no meaning.
pub fn load(path: &Path, kinds: &Kinds, env: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, Report> {
    let name = path.display().to_string();
    let whole = |message: String, help: Option<&str>| Report {
        problems: vec![Source::new(&name, "").problem(None, message, help.map(str::to_owned), String::new())],
    };
    let read = read(path).map_err(|error| whole(format!("the file cannot be read: {error}"), None))?;
    if read.bytes.len() > LARGEST_FILE {
        return Err(whole(format!("the file is larger than {}MiB", LARGEST_FILE >> 20), None));
    }
    let text = std::str::from_utf8(&read.bytes).map_err(|error| {
        let valid = read.bytes.get(..error.valid_up_to()).unwrap_or_default();
        let mark = Source::new("", &String::from_utf8_lossy(valid)).mark_of(valid.len());
        let mut report = whole("the file is not UTF-8".to_owned(), Some("save it as UTF-8"));
        report.problems.iter_mut().for_each(|problem| (problem.line, problem.column) = (mark.line, mark.column));
        report
    })?;
    let base = path.parent().unwrap_or(Path::new(""));
    let loaded = load_text(text, &name, base, kinds, env);
    if read.mode & 0o002 != 0 {
        let mut report = whole("anybody may write to the file".to_owned(), Some("`chmod o-w`"));
        report.problems.extend(loaded.err().into_iter().flat_map(|report| report.problems));
        return Err(report);
    }
    let mut loaded = loaded?;
    loaded.files.insert(0, path.to_owned());
    Ok(loaded)
}

struct Raw {
    bytes: Vec<u8>,
    mode: u32,
}

fn read(path: &Path) -> std::io::Result<Raw> {
    let file = std::fs::File::open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(std::io::Error::other("not a file"));
    }
    let mut bytes = Vec::new();
    // One byte more than allowed is enough to know.
    file.take(LARGEST_FILE as u64 + 1).read_to_end(&mut bytes)?;
    Ok(Raw { bytes, mode: meta.permissions().mode() })
}

/// Checks and resolves a text under a name; files it names are relative to `base_dir`.
///
/// # Errors
/// Like [`load`].
pub fn load_text(
    text: &str,
    name: &str,
    base_dir: &Path,
    kinds: &Kinds,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, Report> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut source = Source::new(name, text);
    if text.len() > LARGEST_FILE {
        let message = format!("the file is larger than {}MiB", LARGEST_FILE >> 20);
        return Err(Report { problems: vec![source.problem(None, message, None, String::new())] });
    }
    let Parsed { tree, mut findings, broken } = match parse(text, env) {
        Ok(parsed) => parsed,
        Err(finding) => {
            source.hide(finding::masks_of_lines(text));
            return Err(Report { problems: vec![finding.render(&Tree::default(), &source)] });
        }
    };
    source.hide([finding::masks(&tree), finding::masks_of_comments(text)].concat());
    let decoder = Decoder::new(&tree, &broken);
    let mut checker =
        Checker { decoder: &decoder, tree: &tree, kinds, base: base_dir, warnings: Vec::new(), read: Vec::new() };
    let file = decoder.decode(Tree::ROOT, |value| ConfigFile::deserialize(value));
    let config = file.as_ref().and_then(|file| checker.config(file));
    let Checker { warnings, read, .. } = checker;
    findings.extend(decoder.into_findings());
    let problems = render(&findings, &tree, &source);
    match config {
        Some(config) if problems.is_empty() => Ok(Loaded {
            config: Arc::new(config),
            hash: hash(text, &tree, &read),
            files: read.into_iter().map(|(path, _)| path).collect(),
            redacted: source.redacted(),
            warnings: render(&warnings, &tree, &source),
        }),
        _ => Err(Report { problems }),
    }
}

/// Problems in the order of the file, each once.
fn render(findings: &[Finding], tree: &Tree, source: &Source<'_>) -> Vec<Problem> {
    let mut problems: Vec<_> = findings.iter().map(|finding| finding.render(tree, source)).collect();
    problems.sort_by(|a, b| (a.line, a.column, &a.message).cmp(&(b.line, b.column, &b.message)));
    // What stands once in the file is said once, although an alias brings it to several places.
    problems.dedup_by(|b, a| a.line > 0 && (a.line, a.column, &a.message) == (b.line, b.column, &b.message));
    problems
}

fn hash(text: &str, tree: &Tree, read: &[(PathBuf, Vec<u8>)]) -> String {
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        // Lengths keep neighbours apart.
        hash.update(bytes.len().to_le_bytes());
        hash.update(bytes);
    };
    add(text.as_bytes());
    for node in &tree.nodes {
        if let Content::Scalar(scalar) = &node.content {
            for used in &scalar.env {
                add(used.name.as_bytes());
                add(used.value.as_bytes());
            }
        }
    }
    for (path, contents) in read {
        add(path.as_os_str().as_encoded_bytes());
        add(contents);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
