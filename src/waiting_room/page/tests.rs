//! The page as visitors get it.
