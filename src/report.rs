//! A snapshot for people: one list of rows and notices, shown as a table on a terminal or as a web page.

mod column;
mod escape;
mod notices;
mod page;
mod row;
mod table;

pub use column::{Column, Output};
pub use page::{ICON, Page, SCRIPT, STYLE};
pub use table::{Table, TableOptions};
