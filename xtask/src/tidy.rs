//! What must hold in the tree and no compiler checks: the rows of ARCHITECTURE.md, a comment atop every file, files of
//! bearable length, links that lead somewhere, one table for each tag, the tests that docs/security.md names.

mod files;
mod rows;
mod security;
mod tables;

use crate::{packages, tree};

/// One line for each thing that is not as it should be.
pub fn check() -> Result<Vec<String>, String> {
    let files = tree::files()?;
    let mut found = rows::check(&packages::all()?);
    found.extend(files::check(&files)?);
    found.extend(security::check(&files)?);
    found.extend(tables::check(&files)?);
    Ok(found)
}
