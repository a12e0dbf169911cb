//! The program as its operator sees it: started, asked, stopped.

mod admin;
mod local;
mod running;
