//! The file and the router say the same.
